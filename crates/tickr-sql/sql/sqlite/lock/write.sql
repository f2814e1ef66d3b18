-- Takes a named lease, after a look that it may be taken.
INSERT INTO tickr_locks (name, holder, term, expires_at, ttl)
VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder,
    term = excluded.term,
    expires_at = excluded.expires_at,
    ttl = excluded.ttl
