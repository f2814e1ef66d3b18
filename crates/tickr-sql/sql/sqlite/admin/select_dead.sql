-- The oldest dead messages of a type and tenant (absent: all).
SELECT d.id
FROM tickr_dead d
LEFT JOIN tickr_messages m ON m.id = d.id
WHERE (?1 IS NULL OR d.event_type = ?1)
  AND (?2 IS NULL OR m.tenant = ?2)
ORDER BY d.id
LIMIT ?3
