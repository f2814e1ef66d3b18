-- Every message in the queue. A scan: for doctors and tests.
SELECT id
FROM tickr_ready
