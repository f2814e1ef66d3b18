-- Whether a message has its body. Primary key.
SELECT EXISTS (
    SELECT 1
    FROM tickr_messages
    WHERE id = ?1
)
