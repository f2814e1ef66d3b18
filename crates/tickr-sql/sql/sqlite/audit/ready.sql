SELECT id
FROM tickr_ready
