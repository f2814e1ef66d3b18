-- How the newest failed attempt ended. Index on (id); the rowid is the order.
SELECT error
FROM tickr_transitions
WHERE id = ?1
  AND outcome IN ('failed', 'exhausted', 'dead', 'killed')
  AND error IS NOT NULL
ORDER BY n DESC
LIMIT 1
