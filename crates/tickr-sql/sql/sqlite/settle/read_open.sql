-- The fence row of a token. Primary key.
SELECT members, settled, revoked
FROM tickr_open_claims
WHERE token = ?1
