-- Whether a condemned worker is left. workers is tiny.
SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE lost <> 0
)
