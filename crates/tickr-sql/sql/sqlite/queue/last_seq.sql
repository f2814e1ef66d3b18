-- The last place given out: when it stands still, nothing became ready.
SELECT value
FROM tickr_counters
WHERE name = 'seq'
