DELETE FROM tickr_transitions
WHERE n = ?1
