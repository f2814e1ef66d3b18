-- Says whether a body is stored, by primary key.
SELECT EXISTS (
    SELECT 1
    FROM tickr_messages
    WHERE id = ?1
)
