SELECT holder, term, expires_at
FROM tickr_locks
WHERE name = ?1
