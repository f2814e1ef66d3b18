-- Remembers how far bodies were purged: see read_cursor.sql.
UPDATE tickr_counters
SET value = iif(name = 'purged_settlement', ?1, ?2)
WHERE name IN ('purged_settlement', 'purged_member')
