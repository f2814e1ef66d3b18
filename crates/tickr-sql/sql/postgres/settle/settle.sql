-- Records outcomes: writes the fence of each token, the journal, and the thin rows of what goes on.
-- $1 offset of the clock in microseconds. Parts $2-$4: token, outcome, mask. Items $5-$15, for what is no plain success: token,
-- index, id, type, lane and attempt of the next run, attempt that ended, crashes, delay in microseconds, outcome, text.
-- $16 whether transitions are recorded, $17 the channel. Primary keys of open_claims and claims.
-- An item that names another message than its claim does stops the whole statement from doing anything.
WITH part AS MATERIALIZED (
    SELECT *
    FROM unnest($2::uuid[], $3::text[], $4::varbit[]) WITH ORDINALITY p (token, outcome, mask, k)
),
asked AS MATERIALIZED (
    SELECT *
    FROM unnest(
        $5::uuid[], $6::integer[], $7::uuid[], $8::text[], $9::smallint[], $10::integer[], $11::integer[], $12::smallint[],
        $13::bigint[], $14::text[], $15::text[]
    ) i (token, idx, id, event_type, lane, attempt, ended, crashes, delay, outcome, error)
),
foreign_item AS MATERIALIZED (
    SELECT a.token, a.idx, a.id
    FROM asked a
    -- Looked up, not joined: a join may be planned as a scan of all claims. NULL, and so not foreign, without a claim.
    WHERE (SELECT k.ids[a.idx + 1] IS DISTINCT FROM a.id FROM tickr_claims k WHERE k.token = a.token)
),
want AS MATERIALIZED (
    SELECT token, bit_or(mask::bit varying) AS mask
    FROM part
    GROUP BY token
),
held AS MATERIALIZED (
    SELECT token, settled, revoked
    FROM tickr_open_claims
    WHERE token = ANY ($2)
      AND NOT EXISTS (SELECT FROM foreign_item)
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
    SELECT
        p.token, p.outcome, p.mask & f.take, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond',
        CASE WHEN p.outcome IN ('ok', 'skipped') THEN 0 END
    FROM part p
    JOIN fresh f ON f.token = p.token
    WHERE position(B'1' IN (p.mask & f.take)) > 0
    ORDER BY p.k
),
item AS MATERIALIZED (
    SELECT a.*
    FROM asked a
    JOIN fresh f ON f.token = a.token
    WHERE get_bit(f.take, a.idx) = 1
),
later AS (
    INSERT INTO tickr_scheduled (process_at, id, event_type, lane, attempt, crashes)
    SELECT
        clock_timestamp() + ($1::bigint + delay) * INTERVAL '1 microsecond', id, event_type, lane, attempt, crashes
    FROM item
    WHERE outcome IN ('failed', 'released', 'snoozed')
      AND delay > 0
),
ready AS (
    INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
    SELECT event_type, lane, id, attempt, crashes
    FROM item
    WHERE outcome IN ('failed', 'released', 'snoozed')
      AND delay <= 0
    ORDER BY token, idx
    RETURNING event_type
),
dead AS (
    INSERT INTO tickr_dead (id, event_type, attempt, reason, died_at)
    SELECT id, event_type, ended, coalesce(error, 'dead'), clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM item
    WHERE outcome IN ('dead', 'exhausted')
),
transition AS (
    INSERT INTO tickr_transitions (id, token, outcome, attempt, error, at)
    SELECT id, token, outcome, ended, error, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM item
    WHERE $16
    ORDER BY token, idx
),
told AS MATERIALIZED (
    SELECT pg_notify($17, r.event_type)
    FROM (SELECT DISTINCT event_type FROM ready) r
    WHERE EXISTS (
        SELECT
        FROM tickr_workers w
        WHERE w.idle
          AND NOT w.lost
          AND w.expires_at > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
          AND r.event_type = ANY (w.event_types)
    )
)
SELECT
    w.token, f.take, f.lost, f.already,
    (SELECT i.idx FROM foreign_item i WHERE i.token = w.token LIMIT 1) AS foreign_idx,
    (SELECT count(*) FROM told) AS told
FROM want w
LEFT JOIN fresh f ON f.token = w.token
