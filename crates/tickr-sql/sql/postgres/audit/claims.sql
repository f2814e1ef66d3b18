-- Every claim with its fence, if it is open, and whether its worker is missing. Reads everything.
SELECT k.token, k.ids, o.settled, o.revoked, o.worker IS NOT NULL AND w.id IS NULL AS unowned
FROM tickr_claims k
LEFT JOIN tickr_open_claims o ON o.token = k.token
LEFT JOIN tickr_workers w ON w.id = o.worker
