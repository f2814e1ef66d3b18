-- Every dead message. A scan: for doctors and tests.
SELECT id
FROM tickr_dead
