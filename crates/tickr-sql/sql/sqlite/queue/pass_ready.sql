-- Sets the counter of places behind the rows of the queue, if it is not. Reads all of ready.
UPDATE tickr_counters
SET value = (SELECT max(seq) FROM tickr_ready)
WHERE name = 'seq'
  AND value < (SELECT max(seq) FROM tickr_ready)
