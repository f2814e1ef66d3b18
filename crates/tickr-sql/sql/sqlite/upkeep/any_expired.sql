-- Whether there is anything to condemn. workers is tiny.
SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE lost = 0
      AND expires_at <= ?1
)
