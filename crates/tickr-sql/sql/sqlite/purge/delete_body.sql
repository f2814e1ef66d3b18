DELETE FROM tickr_messages
WHERE id = ?1
