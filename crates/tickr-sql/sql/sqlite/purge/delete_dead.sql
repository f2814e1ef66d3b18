-- Deletes a dead letter, by primary key; its body goes in the same transaction.
DELETE FROM tickr_dead
WHERE id = ?1
