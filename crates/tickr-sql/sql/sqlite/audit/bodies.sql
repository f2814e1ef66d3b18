-- Every body. A scan: for doctors and tests.
SELECT id
FROM tickr_messages
ORDER BY id
