-- Who holds a named lease. Primary key.
SELECT holder, term, expires_at, ttl
FROM tickr_locks
WHERE name = ?1
