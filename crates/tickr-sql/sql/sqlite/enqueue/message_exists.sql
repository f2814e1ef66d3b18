SELECT EXISTS (
    SELECT 1
    FROM tickr_messages
    WHERE id = ?1
)
