-- The oldest ready messages of a type and tenant (absent: all). Unique index on id.
SELECT r.id
FROM tickr_ready r
LEFT JOIN tickr_messages m ON m.id = r.id
WHERE (?1 IS NULL OR r.event_type = ?1)
  AND (?2 IS NULL OR m.tenant = ?2)
ORDER BY r.id
LIMIT ?3
