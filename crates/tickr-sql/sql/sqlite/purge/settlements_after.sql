-- The proofs in their order: a body goes only because of one of these.
SELECT s.n, s.at, s.outcome IN ('ok', 'skipped') AS success, s.mask, c.ids
FROM tickr_settlements s
JOIN tickr_claims c ON c.token = s.token
WHERE s.n >= ?1
ORDER BY s.n
