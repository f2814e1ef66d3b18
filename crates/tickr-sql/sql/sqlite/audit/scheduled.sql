-- Every message that is due later. A scan: for doctors and tests.
SELECT id
FROM tickr_scheduled
