-- Leases messages: groups in their order, in each its lanes, in each lane the oldest first.
-- $1 offset of the clock in microseconds, $2 worker, $3 its name, $4 token, $5 solo; $6-$10 one group each: type, the first and
-- the last of its lanes, limit, maximum of attempts; $11 lanes and $12 the places in them to look behind; $13 the total.
-- Primary key of ready; bodies by their primary key; ready rows by ctid, which is safe because they are never updated.
-- $14 the moment behind which to look for the next scheduled message, if there is nothing else.
-- Nothing there: nothing is written, no row locked, and one row says in how many microseconds something scheduled is due. The foreign key of open_claims locks the worker's row.
WITH me AS MATERIALIZED (
    SELECT id
    FROM tickr_workers
    WHERE id = $2
      AND NOT lost
      AND expires_at > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
),
lanes AS MATERIALIZED (
    SELECT g.*
    FROM unnest($6::text[], $7::integer[], $8::integer[], $9::integer[], $10::integer[]) WITH ORDINALITY
        g (event_type, first, last, n, max_attempts, ord)
    WHERE NOT EXISTS (SELECT FROM tickr_paused p WHERE p.event_type = g.event_type)
),
candidate AS MATERIALIZED (
    SELECT c.tid
    FROM me
    CROSS JOIN lanes l
    CROSS JOIN LATERAL (
        SELECT q.tid
        FROM generate_series(l.first, l.last) i
        CROSS JOIN LATERAL (
            SELECT r.ctid AS tid
            FROM tickr_ready r
            WHERE r.event_type = l.event_type
              AND r.lane = ($11::smallint[])[i]
              AND r.seq > ($12::bigint[])[i]
            ORDER BY r.seq
            LIMIT l.n
            FOR UPDATE SKIP LOCKED
        ) q
        LIMIT l.n
    ) c
    LIMIT $13
),
gone AS MATERIALIZED (
    DELETE FROM tickr_ready
    WHERE ctid = ANY (ARRAY(SELECT tid FROM candidate))
    RETURNING seq, event_type, lane, id, attempt + 1 AS attempt, crashes
),
kind AS MATERIALIZED (
    SELECT event_type, (row_number() OVER (ORDER BY event_type))::smallint AS n
    FROM (SELECT DISTINCT event_type FROM gone) d
),
numbered AS MATERIALIZED (
    SELECT
        (row_number() OVER (ORDER BY p.i, g.seq) - 1)::integer AS idx,
        g.*,
        k.n AS type,
        p.max_attempts AS group_max
    FROM gone g
    JOIN (
        SELECT l.event_type, ($11::smallint[])[i] AS lane, l.max_attempts, i
        FROM lanes l
        CROSS JOIN LATERAL generate_series(l.first, l.last) i
    ) p ON p.event_type = g.event_type AND p.lane = g.lane
    JOIN kind k ON k.event_type = g.event_type
),
-- Bodies are looked up one by one: a join of two lists may be planned as a loop in a loop, and with OFFSET 0 only the partition of
-- each id is looked into.
taken AS MATERIALIZED (
    SELECT
        n.idx, n.id, n.event_type, n.type, n.lane, n.seq, n.attempt, n.crashes, coalesce(b.max_attempts, n.group_max) AS maximum,
        b.id AS body, b.payload, b.headers, b.content_type, b.idempotency_key, b.ordering_key, b.tenant, b.organisation,
        b.correlation_id, b.priority, b.max_attempts, b.scheduled_at, b.created_at
    FROM numbered n
    LEFT JOIN LATERAL (
        SELECT m.*
        FROM tickr_messages m
        WHERE m.id = n.id
        OFFSET 0
    ) b ON true
),
-- A list of equal numbers is stored as one.
recorded AS (
    INSERT INTO tickr_claims (token, worker, worker_name, solo, at, id_min, id_max, ids, attempts, crashes, maxes, event_types, types)
    SELECT
        $4, $2, $3, $5, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond',
        (SELECT id FROM gone ORDER BY id LIMIT 1),
        (SELECT id FROM gone ORDER BY id DESC LIMIT 1),
        array_agg(id),
        CASE WHEN min(attempt) = max(attempt) THEN ARRAY[min(attempt)] ELSE array_agg(attempt) END,
        CASE WHEN min(crashes) = max(crashes) THEN ARRAY[min(crashes)] ELSE array_agg(crashes) END,
        CASE WHEN min(maximum) = max(maximum) THEN ARRAY[min(maximum)] ELSE array_agg(maximum) END,
        ARRAY(SELECT event_type FROM kind ORDER BY n),
        CASE WHEN min(type) = max(type) THEN ARRAY[min(type)] ELSE array_agg(type) END
    FROM (SELECT id, attempt, crashes, maximum, type FROM taken ORDER BY idx) t
    HAVING count(*) > 0
    RETURNING token, worker, cardinality(ids) AS members
),
opened AS (
    INSERT INTO tickr_open_claims (token, worker, settled, revoked)
    SELECT token, worker, repeat('0', members)::varbit, repeat('0', members)::varbit
    FROM recorded
)
-- A body that is missing is reported, never dropped. Without an order: whoever asks has one, and wide rows are dear to sort.
SELECT
    t.body, t.event_type, t.payload, t.headers, t.content_type, t.idempotency_key, t.ordering_key, t.tenant, t.organisation,
    t.correlation_id, t.priority, t.max_attempts, t.scheduled_at, t.created_at,
    t.idx, t.id, t.attempt, t.maximum, t.crashes,
    CASE
        WHEN t.attempt > 1 THEN (
            SELECT x.error
            FROM tickr_transitions x
            WHERE x.id = t.id
              AND x.error IS NOT NULL
            ORDER BY x.n DESC
            LIMIT 1
        )
    END AS last_error,
    t.lane, t.seq,
    CASE
        WHEN t.idx IS NULL THEN (
            SELECT (extract(epoch FROM s.process_at - statement_timestamp()) * 1000000)::bigint - $1
            FROM tickr_scheduled s
            WHERE s.process_at > $14
            ORDER BY s.process_at
            LIMIT 1
        )
    END AS quiet
FROM (VALUES (1)) one (n)
LEFT JOIN taken t ON true
