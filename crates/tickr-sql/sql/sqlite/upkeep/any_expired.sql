-- Whether there is a worker to condemn, or a lease to shorten because the clock was set back. workers is tiny.
SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE lost = 0
      AND (expires_at <= ?1 OR expires_at > ?1 + lease)
)
