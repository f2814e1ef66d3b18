-- Takes claims of condemned workers back: members return, as suspects from their second crash on, or die. $1 offset of the clock in microseconds, $2 how many
-- claims, $3 whether transitions are recorded, $4 what the dead letter of a message without a body says, $5 channel.
-- A shared crash never kills; a crash of an exclusive claim (solo) keeps the attempt and kills at the maximum. The first crash only
-- counts: the message returns to lane 0, before the backlog.
-- Index on worker of open_claims, primary keys of claims and messages.
WITH taken AS MATERIALIZED (
    SELECT o.token, o.settled | o.revoked AS gone
    FROM tickr_workers w
    JOIN tickr_open_claims o ON o.worker = w.id
    WHERE w.lost
      -- One whose fence does not fit its members is left for the audit to name: it must not stop the others.
      AND (SELECT length(o.settled) = cardinality(k.ids) AND length(o.revoked) = cardinality(k.ids)
           FROM tickr_claims k WHERE k.token = o.token)
    ORDER BY o.token
    LIMIT $2
    FOR UPDATE OF o SKIP LOCKED
),
leased AS MATERIALIZED (
    SELECT
        t.token,
        k.solo,
        ~t.gone AS mask,
        u.id,
        (u.i - 1)::integer AS idx,
        coalesce(
            k.event_types[coalesce(k.types[u.i], k.types[1])], (SELECT m.event_type FROM tickr_messages m WHERE m.id = u.id), '?'
        ) AS event_type,
        coalesce(k.attempts[u.i], k.attempts[1]) AS attempt,
        coalesce(k.crashes[u.i], k.crashes[1]) AS crashes,
        coalesce(k.maxes[u.i], k.maxes[1]) AS maximum,
        EXISTS (SELECT FROM tickr_messages m WHERE m.id = u.id) AS has_body
    FROM taken t
    CROSS JOIN LATERAL (SELECT * FROM tickr_claims c WHERE c.token = t.token OFFSET 0) k
    CROSS JOIN LATERAL unnest(k.ids) WITH ORDINALITY u (id, i)
    WHERE get_bit(t.gone, (u.i - 1)::integer) = 0
),
fate AS MATERIALIZED (
    SELECT
        l.*,
        NOT has_body OR (solo AND attempt >= maximum) AS dies,
        CASE WHEN solo THEN attempt ELSE least(attempt, greatest(maximum, 1) - 1) END AS next
    FROM leased l
),
closed AS (
    DELETE FROM tickr_open_claims
    WHERE token = ANY (ARRAY(SELECT token FROM taken))
),
log AS (
    INSERT INTO tickr_settlements (token, outcome, mask, at)
    SELECT DISTINCT token, 'reclaimed', mask, statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM leased
),
ready AS (
    INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
    SELECT event_type, CASE WHEN crashes >= 1 THEN 4 ELSE 0 END, id, next, least(crashes + 1, 32767)
    FROM fate f
    WHERE NOT dies
      -- One that is ready already, by a repair by hand, must not keep the others.
      AND (SELECT true FROM tickr_ready r WHERE r.id = f.id) IS NULL
    ORDER BY token, idx
),
dead AS (
    INSERT INTO tickr_dead (id, event_type, attempt, reason, died_at)
    SELECT
        id, CASE WHEN has_body THEN event_type ELSE '?' END, attempt, CASE WHEN has_body THEN 'crashed' ELSE $4 END,
        clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM fate
    WHERE dies
    ON CONFLICT (id) DO NOTHING
),
transition AS (
    INSERT INTO tickr_transitions (id, token, outcome, attempt, at)
    SELECT
        id, token, CASE WHEN dies THEN 'crashed' ELSE 'reclaimed' END, attempt,
        clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM fate
    WHERE $3
    ORDER BY token, idx
),
told AS MATERIALIZED (
    SELECT pg_notify($5, r.event_type)
    FROM (SELECT DISTINCT event_type FROM fate WHERE NOT dies) r
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
    t.token, f.id, CASE WHEN f.has_body THEN f.event_type ELSE '?' END AS event_type, f.attempt, f.dies,
    (SELECT count(*) FROM told) AS told
FROM taken t
LEFT JOIN fate f ON f.token = t.token
ORDER BY t.token, f.idx
