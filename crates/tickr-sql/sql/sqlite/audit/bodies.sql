-- Every body. A scan: for doctors and tests.
SELECT id, created_at
FROM tickr_messages
ORDER BY id
