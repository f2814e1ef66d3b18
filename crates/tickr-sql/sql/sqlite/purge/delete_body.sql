-- Deletes a body, by primary key. Only after a proof: see settlements_after.sql and dead_before.sql.
DELETE FROM tickr_messages
WHERE id = ?1
