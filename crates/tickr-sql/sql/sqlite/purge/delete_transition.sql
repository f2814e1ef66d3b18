-- Deletes a step of a message whose body is gone, by rowid.
DELETE FROM tickr_transitions
WHERE n = ?1
