-- How far bodies were purged: a row of tickr_settlements, and a member in it.
SELECT s.value, m.value
FROM tickr_counters s
CROSS JOIN tickr_counters m
WHERE s.name = 'purged_settlement'
  AND m.name = 'purged_member'
