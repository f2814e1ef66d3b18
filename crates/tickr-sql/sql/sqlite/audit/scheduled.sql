SELECT id
FROM tickr_scheduled
