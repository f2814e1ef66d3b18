-- Deletes a dead letter, or takes it out to bring it back. Primary key.
DELETE FROM tickr_dead
WHERE id = ?1
