-- Scoped to holder and term; an expired lease is gone. Releasing sets the end to 0 and keeps the row: terms only grow.
UPDATE tickr_locks
SET expires_at = ?5,
    ttl = ?6
WHERE name = ?1
  AND holder = ?2
  AND term = ?3
  AND expires_at > ?4
