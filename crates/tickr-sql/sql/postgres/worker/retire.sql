-- Gives back whatever a worker still holds, attempts included. What has no body cannot run again, and nobody may forget it: it is
-- dead. $1 offset of the clock in microseconds, $3 why, $4 what a dead letter says, $5 whether transitions are recorded, $6 channel.
-- Index on worker of open_claims, primary keys of claims and messages.
WITH mine AS MATERIALIZED (
    SELECT token, settled | revoked AS gone
    FROM tickr_open_claims
    WHERE worker = $2
    ORDER BY token
    FOR UPDATE
),
leased AS MATERIALIZED (
    SELECT
        g.token,
        length(g.gone) AS members,
        u.id,
        (u.i - 1)::integer AS idx,
        coalesce(
            k.event_types[coalesce(k.types[u.i], k.types[1])], (SELECT m.event_type FROM tickr_messages m WHERE m.id = u.id), '?'
        ) AS event_type,
        coalesce(k.attempts[u.i], k.attempts[1]) AS attempt,
        coalesce(k.crashes[u.i], k.crashes[1]) AS crashes,
        EXISTS (SELECT FROM tickr_messages m WHERE m.id = u.id) AS has_body
    FROM mine g
    CROSS JOIN LATERAL (SELECT * FROM tickr_claims c WHERE c.token = g.token OFFSET 0) k
    CROSS JOIN LATERAL unnest(k.ids) WITH ORDINALITY u (id, i)
    WHERE get_bit(g.gone, (u.i - 1)::integer) = 0
),
closed AS (
    DELETE FROM tickr_open_claims
    WHERE token = ANY (ARRAY(SELECT token FROM mine))
),
log AS (
    INSERT INTO tickr_settlements (token, outcome, mask, at)
    SELECT
        token,
        CASE WHEN has_body THEN 'released' ELSE 'dead' END,
        bit_or(set_bit(repeat('0', members)::bit varying, idx, 1)),
        clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM leased
    GROUP BY token, has_body
),
ready AS (
    INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
    SELECT event_type, CASE WHEN crashes >= 2 THEN 4 ELSE 0 END, id, greatest(attempt - 1, 0), crashes
    FROM leased l
    WHERE has_body
      -- One that is ready already, by a repair by hand, must not keep the others.
      AND (SELECT true FROM tickr_ready r WHERE r.id = l.id) IS NULL
    ORDER BY token, idx
    RETURNING event_type
),
dead AS (
    INSERT INTO tickr_dead (id, event_type, attempt, reason, died_at)
    SELECT id, event_type, attempt, $4, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM leased
    WHERE NOT has_body
    ON CONFLICT (id) DO NOTHING
),
transition AS (
    INSERT INTO tickr_transitions (id, token, outcome, attempt, error, at)
    SELECT
        id, token, CASE WHEN has_body THEN 'released' ELSE 'dead' END, attempt, CASE WHEN has_body THEN $3 ELSE $4 END,
        clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM leased
    WHERE $5
    ORDER BY token, idx
),
told AS MATERIALIZED (
    SELECT pg_notify($6, r.event_type)
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
SELECT (SELECT count(*) FROM ready) AS released, (SELECT count(*) FROM told) AS told
