-- What a worker has open. Index on worker.
SELECT token, members, settled, revoked
FROM tickr_open_claims
WHERE worker = ?1
ORDER BY token
