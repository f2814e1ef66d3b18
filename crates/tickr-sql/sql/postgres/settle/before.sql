-- What the journal says of claims that are closed; sent as a statement of its own, after their fences were found gone.
-- Primary key of claims, index on token of settlements.
SELECT k.token, cardinality(k.ids) AS members, s.outcome, s.mask
FROM tickr_claims k
LEFT JOIN LATERAL (SELECT x.outcome, x.mask FROM tickr_settlements x WHERE x.token = k.token OFFSET 0) s ON true
WHERE k.token = ANY ($1)
