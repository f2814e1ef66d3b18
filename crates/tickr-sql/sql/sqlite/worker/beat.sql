-- A worker that is unknown or condemned writes 0 rows.
UPDATE tickr_workers
SET expires_at = ?2,
    lease = ?3,
    idle = ?4
WHERE id = ?1
  AND lost = 0
