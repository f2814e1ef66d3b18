-- tickr for PostgreSQL, schema version 1: views, for operators and for the library.

-- OFFSET 0 keeps what is looked up by a key a look-up: what is joined the planner may also read as a whole.

-- Members of open claims that are still leased. A claim whose fence does not fit its members has none: the audit names it.
CREATE VIEW tickr_leased AS
SELECT
    u.id,
    o.token,
    (u.i - 1)::integer AS member,
    coalesce(k.event_types[coalesce(k.types[u.i], k.types[1])], '?') COLLATE "C" AS event_type,
    coalesce(k.attempts[u.i], k.attempts[1]) AS attempt,
    coalesce(k.crashes[u.i], k.crashes[1]) AS crashes,
    coalesce(k.maxes[u.i], k.maxes[1]) AS max_attempts,
    k.solo,
    k.worker,
    k.worker_name,
    k.at AS claimed_at,
    k.id_min,
    k.id_max
FROM tickr_open_claims o
CROSS JOIN LATERAL (
    SELECT *
    FROM tickr_claims c
    WHERE c.token = o.token
    OFFSET 0
) k
-- Compared here once per claim. In WHERE it would be once per member, and each time read all ids from TOAST.
CROSS JOIN LATERAL unnest(
    CASE WHEN length(o.settled) = cardinality(k.ids) AND length(o.revoked) = cardinality(k.ids) THEN k.ids END
) WITH ORDINALITY u (id, i)
WHERE get_bit(o.settled | o.revoked, (u.i - 1)::integer) = 0;

-- Where a message stands: SELECT * FROM tickr_message_status WHERE id = '...'. One statement, one snapshot: a message on the
-- move is never absent. A body without any state and without a recorded success reads LOST.
CREATE VIEW tickr_message_status AS
SELECT
    m.id,
    m.event_type,
    m.tenant,
    CASE
        WHEN r.id IS NOT NULL THEN CASE WHEN r.attempt = 0 AND r.crashes = 0 THEN 'CREATED' ELSE 'RETRYING' END
        WHEN s.id IS NOT NULL THEN CASE WHEN s.attempt = 0 AND s.crashes = 0 THEN 'CREATED' ELSE 'RETRYING' END
        WHEN d.id IS NOT NULL THEN 'DEAD'
        WHEN l.token IS NOT NULL THEN 'HANDLING'
        WHEN p.at IS NOT NULL THEN 'SUCCESS'
        ELSE 'LOST'
    END AS status,
    coalesce(r.attempt, s.attempt, d.attempt, l.attempt, p.attempt) AS attempt,
    s.process_at AS due_at,
    l.worker_name AS worker,
    coalesce(d.reason, t.error) AS last_error,
    coalesce(d.died_at, p.at) AS finished_at,
    m.created_at
FROM tickr_messages m
LEFT JOIN tickr_ready r ON r.id = m.id
LEFT JOIN tickr_scheduled s ON s.id = m.id
LEFT JOIN tickr_dead d ON d.id = m.id
LEFT JOIN LATERAL (
    SELECT l.token, l.attempt, l.worker_name
    FROM tickr_leased l
    WHERE r.id IS NULL
      AND s.id IS NULL
      AND d.id IS NULL
      AND l.id_max >= m.id
      AND l.id_min <= m.id
      AND l.id = m.id
    LIMIT 1
) l ON true
LEFT JOIN LATERAL (
    -- Span by span: most often it is in a short one.
    SELECT e.at, coalesce(k.attempts[k.i], k.attempts[1]) AS attempt
    FROM (
        SELECT c.token, c.attempts, array_position(c.ids, m.id) AS i
        FROM (SELECT ('x' || translate(left(m.id::text, 13), '-', ''))::bit(48)::bigint AS ms OFFSET 0) b
        CROSS JOIN generate_series(0, 24) n
        CROSS JOIN LATERAL (
            SELECT *
            FROM tickr_claims c
            WHERE c.span = n
              AND c.id_max >= m.id
              AND c.id_max <= rpad(lpad(to_hex(least(b.ms + (1::bigint << 2 * n), 281474976710655)), 12, '0'), 32, 'f')::uuid
              AND c.id_min <= m.id
            OFFSET 0
        ) c
    ) k
    CROSS JOIN LATERAL (
        SELECT x.at
        FROM tickr_settlements x
        WHERE x.token = k.token
          AND k.i > x.proves_from
          AND CASE WHEN k.i <= length(x.mask) THEN get_bit(x.mask, k.i - 1) = 1 END
        OFFSET 0
    ) e
    WHERE r.id IS NULL
      AND s.id IS NULL
      AND d.id IS NULL
      AND l.token IS NULL
    LIMIT 1
) p ON true
LEFT JOIN LATERAL (
    SELECT x.error
    FROM tickr_transitions x
    WHERE d.id IS NULL
      AND x.id = m.id
      AND x.error IS NOT NULL
    ORDER BY x.n DESC
    LIMIT 1
) t ON true;
