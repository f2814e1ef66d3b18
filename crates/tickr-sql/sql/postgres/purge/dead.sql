-- Deletes dead letters, each with its body. $1 offset of the clock and $2 the retention in microseconds, $3 how many.
-- Index on died_at, primary keys of dead and messages.
WITH gone AS MATERIALIZED (
    DELETE FROM tickr_dead
    WHERE id = ANY (
        ARRAY(
            SELECT id
            FROM tickr_dead
            WHERE died_at <= statement_timestamp() + ($1::bigint - $2::bigint) * INTERVAL '1 microsecond'
            ORDER BY died_at
            LIMIT $3
            FOR UPDATE SKIP LOCKED
        )
    )
    RETURNING id
),
body AS (
    DELETE FROM tickr_messages
    WHERE id = ANY (ARRAY(SELECT id FROM gone))
)
SELECT count(*)
FROM gone
