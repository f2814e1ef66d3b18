UPDATE tickr_counters
SET value = iif(name = 'purged_settlement', ?1, ?2)
WHERE name IN ('purged_settlement', 'purged_member')
