-- Records how far bodies were purged: a row of tickr_settlements, and a member in it.
UPDATE tickr_counters
SET value = iif(name = 'purged_settlement', ?1, ?2)
WHERE name IN ('purged_settlement', 'purged_member')
