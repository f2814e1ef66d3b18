-- Says whether a worker is condemned. The table is small.
SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE lost <> 0
)
