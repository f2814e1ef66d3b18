SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE id = ?1
)
