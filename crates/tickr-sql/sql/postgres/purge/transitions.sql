-- Deletes old transitions of messages whose body is gone, from a page of the journal, so that rows which must stay never hide
-- those behind them. $1 offset of the clock and $2 the retention in microseconds, $3 where the page begins, $4 its length.
-- Answers where it ended, NULL at the end. Primary keys of transitions and messages.
WITH page AS MATERIALIZED (
    SELECT n, id, at
    FROM tickr_transitions
    WHERE n > $3
    ORDER BY n
    LIMIT $4
),
old AS MATERIALIZED (
    SELECT n, id
    FROM page
    WHERE at <= statement_timestamp() + ($1::bigint - $2::bigint) * INTERVAL '1 microsecond'
),
gone AS (
    DELETE FROM tickr_transitions
    WHERE n = ANY (ARRAY(SELECT o.n FROM old o WHERE (SELECT true FROM tickr_messages m WHERE m.id = o.id) IS NULL))
    RETURNING n
)
SELECT
    (SELECT count(*) FROM gone) AS rows,
    CASE WHEN (SELECT count(*) FROM old) >= $4 THEN (SELECT max(n) FROM old) END AS last
