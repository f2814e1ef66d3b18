-- Open claims of condemned workers, in token order; read until enough are found. Index on worker; workers is tiny.
SELECT o.token, o.members, o.settled, o.revoked
FROM tickr_workers w
JOIN tickr_open_claims o ON o.worker = w.id
WHERE w.lost <> 0
ORDER BY o.token
