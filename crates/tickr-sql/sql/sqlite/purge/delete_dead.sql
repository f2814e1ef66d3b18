DELETE FROM tickr_dead
WHERE id = ?1
