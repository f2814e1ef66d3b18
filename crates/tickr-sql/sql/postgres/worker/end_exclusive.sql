-- Ends the exclusivity of an open claim, unless its worker is condemned: one row if it is open, no row otherwise. $1 token.
-- The lock on the worker's row makes a reclaim that condemns it wait, so that a reclaim either sees the end or comes first and closes the claim.
-- Primary keys of open_claims, workers and claims.
WITH held AS MATERIALIZED (
    SELECT o.token
    FROM tickr_open_claims o
    JOIN tickr_workers w ON w.id = o.worker
    WHERE o.token = $1
      AND NOT w.lost
    FOR UPDATE OF o
    FOR SHARE OF w
)
UPDATE tickr_claims c
SET solo = false
WHERE c.token = $1
  AND EXISTS (SELECT FROM held)
RETURNING c.token
