-- What was recorded of a message. Index on (id, n).
SELECT token, outcome, attempt, error, at
FROM tickr_transitions
WHERE id = $1
ORDER BY n
