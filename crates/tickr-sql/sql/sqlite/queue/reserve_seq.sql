-- Reserves ?1 places in the queue and gives the last one. Gaps are fine, repetition is not: a row, not a rowid,
-- because rowids start again when the table runs empty.
UPDATE tickr_counters
SET value = value + ?1
WHERE name = 'seq'
RETURNING value
