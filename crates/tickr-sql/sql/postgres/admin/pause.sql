-- Stops claims of a type ($2; empty: of everything), and forgets pauses that are over. $1 offset of the clock in microseconds, $3 since
-- when, $4 the end (NULL: none), $5 who, $6 why, $7 whether a pause that ends later stays.
-- One row: whether the scope was paused already. Primary key; paused is tiny. Rows that another pause is writing are skipped, so that
-- no two pauses wait for each other.
WITH over AS MATERIALIZED (
    SELECT ctid AS tid
    FROM tickr_paused
    WHERE until <= clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
      AND event_type <> $2
    FOR UPDATE SKIP LOCKED
),
forgotten AS (
    DELETE FROM tickr_paused
    WHERE ctid = ANY (ARRAY(SELECT tid FROM over))
),
before AS MATERIALIZED (
    SELECT EXISTS (
        SELECT
        FROM tickr_paused
        WHERE event_type = $2
          AND until > clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    ) AS paused
),
written AS (
    INSERT INTO tickr_paused AS p (event_type, paused_at, until, actor, reason)
    VALUES ($2, $3, coalesce($4, 'infinity'), $5, $6)
    ON CONFLICT (event_type) DO UPDATE
    SET paused_at = excluded.paused_at, until = excluded.until, actor = excluded.actor, reason = excluded.reason
    WHERE NOT $7
       OR p.until < excluded.until
)
SELECT paused
FROM before
