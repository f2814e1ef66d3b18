-- Settlements without their claim.
SELECT DISTINCT s.token
FROM tickr_settlements s
WHERE NOT EXISTS (SELECT 1 FROM tickr_claims c WHERE c.token = s.token)
