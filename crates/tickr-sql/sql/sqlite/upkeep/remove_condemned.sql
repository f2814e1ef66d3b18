-- Condemned workers without open claims.
DELETE FROM tickr_workers
WHERE lost <> 0
  AND NOT EXISTS (SELECT 1 FROM tickr_open_claims o WHERE o.worker = tickr_workers.id)
