UPDATE tickr_counters
SET value = ?1
WHERE name = 'bodies_purged'
