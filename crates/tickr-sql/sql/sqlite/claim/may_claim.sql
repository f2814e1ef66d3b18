-- A worker that is unknown, expired or condemned takes nothing.
SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE id = ?1
      AND lost = 0
      AND expires_at > ?2
)
