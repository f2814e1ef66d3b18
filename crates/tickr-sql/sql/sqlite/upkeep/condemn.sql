-- Condemns workers whose lease has run out. The table is small, and has no index that this would write.
UPDATE tickr_workers
SET lost = 1
WHERE lost = 0
  AND expires_at <= ?1
