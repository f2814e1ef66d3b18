SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE lost <> 0
)
