-- When a message was enqueued. Primary key.
SELECT created_at
FROM tickr_messages
WHERE id = $1
