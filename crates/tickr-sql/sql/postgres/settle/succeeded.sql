-- Records successes and nothing else, as most settles do: settle.sql without what other outcomes need, whose plan would be set up each
-- time for nothing.
-- $1 offset of the clock in microseconds, $2 tokens, $3 their masks. Primary key of open_claims.
WITH want AS MATERIALIZED (
    SELECT token, bit_or(mask::bit varying) AS mask
    FROM unnest($2::uuid[], $3::varbit[]) p (token, mask)
    GROUP BY token
),
held AS MATERIALIZED (
    SELECT token, settled, revoked
    FROM tickr_open_claims
    WHERE token = ANY ($2)
    ORDER BY token
    FOR UPDATE
),
fresh AS MATERIALIZED (
    SELECT
        h.token,
        w.mask & ~(h.settled | h.revoked) AS take,
        w.mask & h.revoked AS lost,
        w.mask & h.settled AS already,
        h.settled | (w.mask & ~h.revoked) AS settled,
        position(B'0' IN (h.settled | h.revoked | w.mask)) = 0 AS full
    FROM want w
    JOIN held h ON h.token = w.token
),
closed AS (
    DELETE FROM tickr_open_claims o
    USING fresh f
    WHERE o.token = f.token
      AND f.full
),
kept AS (
    UPDATE tickr_open_claims o
    SET settled = f.settled
    FROM fresh f
    WHERE o.token = f.token
      AND NOT f.full
      AND position(B'1' IN f.take) > 0
),
log AS (
    INSERT INTO tickr_settlements (token, outcome, mask, at, proves_from)
    SELECT token, 'ok', take, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond', 0
    FROM fresh
    WHERE position(B'1' IN take) > 0
)
SELECT w.token, f.take, f.lost, f.already, NULL::integer AS foreign_idx
FROM want w
LEFT JOIN fresh f ON f.token = w.token
