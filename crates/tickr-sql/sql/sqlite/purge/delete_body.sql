-- Deletes a body, of which a success was recorded or whose dead letter goes with it. Primary key.
DELETE FROM tickr_messages
WHERE id = ?1
