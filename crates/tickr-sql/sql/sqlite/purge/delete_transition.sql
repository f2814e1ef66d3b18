-- Deletes one step of the history. Rowid.
DELETE FROM tickr_transitions
WHERE n = ?1
