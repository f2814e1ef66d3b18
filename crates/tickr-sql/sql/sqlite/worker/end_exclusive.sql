-- Ends the exclusivity of an open claim, unless its worker is condemned. Unique indexes on token and worker.
UPDATE tickr_claims
SET solo = 0
WHERE token = ?1
  AND EXISTS (
      SELECT 1
      FROM tickr_open_claims o
      CROSS JOIN tickr_workers w
      WHERE o.token = ?1
        AND w.id = o.worker
        AND w.lost = 0
  )
