-- Whether a condemned worker is left, or an open claim of a worker that has no row. workers and open_claims are tiny.
SELECT EXISTS (
    SELECT 1
    FROM tickr_workers
    WHERE lost <> 0
) OR EXISTS (
    SELECT 1
    FROM tickr_open_claims
    WHERE worker NOT IN (SELECT id FROM tickr_workers)
)
