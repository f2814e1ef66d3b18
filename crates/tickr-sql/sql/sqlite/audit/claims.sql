-- Every claim with its fence row, if it is open, and whether its worker is missing.
SELECT c.token, c.ids, o.members, o.settled, o.revoked, o.worker IS NOT NULL AND w.id IS NULL AS unowned
FROM tickr_claims c
LEFT JOIN tickr_open_claims o ON o.token = c.token
LEFT JOIN tickr_workers w ON w.id = o.worker
ORDER BY c.n
