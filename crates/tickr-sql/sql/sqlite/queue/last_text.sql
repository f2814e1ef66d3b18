-- The newest recorded error or reason. Index on (id); the rowid is the order.
SELECT error
FROM tickr_transitions
WHERE id = ?1
  AND error IS NOT NULL
ORDER BY n DESC
LIMIT 1
