-- The oldest scheduled messages of a type and tenant (absent: all).
SELECT s.id
FROM tickr_scheduled s
LEFT JOIN tickr_messages m ON m.id = s.id
WHERE (?1 IS NULL OR s.event_type = ?1)
  AND (?2 IS NULL OR m.tenant = ?2)
ORDER BY s.id
LIMIT ?3
