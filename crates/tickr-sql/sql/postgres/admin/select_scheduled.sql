-- The oldest scheduled messages of a type and tenant (absent: all).
SELECT s.id
FROM tickr_scheduled s
WHERE ($1::text IS NULL OR s.event_type = $1)
  AND ($2::text IS NULL OR (SELECT m.tenant FROM tickr_messages m WHERE m.id = s.id) = $2)
ORDER BY s.id
LIMIT $3
