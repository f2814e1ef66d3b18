-- The oldest dead messages of a type and tenant (absent: all).
SELECT d.id
FROM tickr_dead d
WHERE ($1::text IS NULL OR d.event_type = $1)
  AND ($2::text IS NULL OR (SELECT m.tenant FROM tickr_messages m WHERE m.id = d.id) = $2)
ORDER BY d.id
LIMIT $3
