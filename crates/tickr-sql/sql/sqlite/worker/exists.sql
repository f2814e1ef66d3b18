-- Whether a worker is registered. Primary key.
SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE id = ?1
)
