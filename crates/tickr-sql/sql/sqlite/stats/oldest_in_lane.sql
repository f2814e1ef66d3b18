-- When the first message of a lane was enqueued: one look.
SELECT m.created_at
FROM (
    SELECT id
    FROM tickr_ready
    WHERE event_type = ?1
      AND lane = ?2
    ORDER BY seq
    LIMIT 1
) r
JOIN tickr_messages m ON m.id = r.id
