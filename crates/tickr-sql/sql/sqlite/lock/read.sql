-- Reads a named lease, by primary key.
SELECT holder, term, expires_at
FROM tickr_locks
WHERE name = ?1
