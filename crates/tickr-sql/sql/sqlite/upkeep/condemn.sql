-- Condemns every worker whose lease has expired. workers is tiny.
UPDATE tickr_workers
SET lost = 1
WHERE lost = 0
  AND expires_at <= ?1
