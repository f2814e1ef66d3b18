-- How far bodies were purged, as a rowid of tickr_settlements.
SELECT value
FROM tickr_counters
WHERE name = 'bodies_purged'
