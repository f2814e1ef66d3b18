SELECT id
FROM tickr_dead
