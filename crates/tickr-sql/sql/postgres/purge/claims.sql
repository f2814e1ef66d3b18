-- Deletes claims that are closed, with their settlements, once all of it is old and no proof is needed any more: what is left of
-- the journal still adds up. $1 offset of the clock and $2 the retention in microseconds, $3 how many claims.
-- Index on at of claims, primary key of open_claims, index on token of settlements.
WITH over AS MATERIALIZED (
    SELECT k.token
    FROM tickr_claims k
    WHERE k.at <= statement_timestamp() + ($1::bigint - $2::bigint) * INTERVAL '1 microsecond'
      AND NOT EXISTS (SELECT FROM tickr_open_claims o WHERE o.token = k.token)
      AND NOT EXISTS (
          SELECT
          FROM tickr_settlements s
          WHERE s.token = k.token
            AND (
                s.proves_from IS NOT NULL
                OR s.at > statement_timestamp() + ($1::bigint - $2::bigint) * INTERVAL '1 microsecond'
            )
      )
    ORDER BY k.at
    LIMIT $3
    FOR UPDATE SKIP LOCKED
),
settlement AS (
    DELETE FROM tickr_settlements
    WHERE token = ANY (ARRAY(SELECT token FROM over))
    RETURNING token
),
claim AS (
    DELETE FROM tickr_claims
    WHERE token = ANY (ARRAY(SELECT token FROM over))
    RETURNING token
)
SELECT (SELECT count(*) FROM settlement) + (SELECT count(*) FROM claim) AS rows, (SELECT count(*) FROM over) >= $3 AS more
