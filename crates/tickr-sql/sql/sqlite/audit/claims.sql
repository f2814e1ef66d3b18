-- Every claim with its fence row, if it is open.
SELECT c.token, c.ids, o.members, o.settled, o.revoked
FROM tickr_claims c
LEFT JOIN tickr_open_claims o ON o.token = c.token
ORDER BY c.n
