-- Index on (id).
SELECT token, outcome, attempt, error, at
FROM tickr_transitions
WHERE id = ?1
ORDER BY n
