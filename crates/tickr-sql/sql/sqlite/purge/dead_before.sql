-- Index on died_at.
SELECT id
FROM tickr_dead
WHERE died_at <= ?1
ORDER BY died_at
LIMIT ?2
