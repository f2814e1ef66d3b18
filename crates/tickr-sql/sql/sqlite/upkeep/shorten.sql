-- A lease that ends more than its own length after ?1 was written before the clock was set back: it ends one length from now. workers is
-- tiny.
UPDATE tickr_workers
SET expires_at = ?1 + lease
WHERE lost = 0
  AND expires_at > ?1 + lease
