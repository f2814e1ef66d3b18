-- Every claim with its fence, if it is open. Reads everything.
SELECT k.token, k.ids, o.settled, o.revoked
FROM tickr_claims k
LEFT JOIN tickr_open_claims o ON o.token = k.token
