-- Leases messages: groups in their order, in each its lanes, in each lane the oldest first.
-- $1 offset of the clock in microseconds, $2 worker, $3 its name, $4 token, $5 solo; $6-$10 one group each: type, the first and
-- the last of its lanes, limit, maximum of attempts; $11 lanes and $12 the places in them behind which to scan; $13 the total.
-- Primary key of ready; bodies by their primary key; ready rows by ctid, which is safe because they are never updated.
-- $14 the moment behind which the next scheduled message is searched, if nothing is ready.
-- Where nothing is ready, nothing is written, no row is locked, and one row returns in how many microseconds something scheduled is
-- due. The foreign key of open_claims locks the worker's row.
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
    -- The empty type stands for everything. As an OR the table is read once; an IN would be looked up for each group.
    WHERE NOT EXISTS (
        SELECT
        FROM tickr_paused p
        WHERE (p.event_type = g.event_type OR p.event_type = '')
          AND p.until > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    )
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
    RETURNING seq, event_type, lane, id, least(attempt, 65535) + 1 AS attempt, crashes
),
place AS MATERIALIZED (
    SELECT l.event_type, ($11::smallint[])[i] AS lane, l.max_attempts, i
    FROM lanes l
    CROSS JOIN LATERAL generate_series(l.first, l.last) i
),
-- Bodies are looked up one by one: a join of two lists may be planned as a loop in a loop, and with OFFSET 0 only the partition of
-- each id is read.
taken AS MATERIALIZED (
    SELECT
        p.i AS place, g.seq, g.id, g.attempt, g.crashes,
        -- A number that is no maximum makes the message unreadable; it must not make the claim so.
        CASE WHEN b.max_attempts BETWEEN 1 AND 65535 THEN b.max_attempts ELSE p.max_attempts END AS maximum,
        b.payload, b.created_at, b.priority, b.max_attempts, b.scheduled_at, b.content_type, b.headers,
        -- Most messages have none of them, and a column costs much the same with and without a value.
        CASE
            WHEN coalesce(b.idempotency_key, b.ordering_key, b.tenant, b.organisation, b.correlation_id) IS NOT NULL
            THEN ARRAY[b.idempotency_key, b.ordering_key, b.tenant, b.organisation, b.correlation_id]
        END AS texts
    FROM gone g
    JOIN place p ON p.event_type = g.event_type AND p.lane = g.lane
    LEFT JOIN LATERAL (
        SELECT m.*
        FROM tickr_messages m
        WHERE m.id = g.id
        OFFSET 0
    ) b ON true
),
-- Where all members are alike one number stands for all, and the lists are not made.
alike AS MATERIALIZED (
    SELECT
        min(attempt) AS attempt, min(crashes) AS crashes, min(maximum) AS maximum,
        min(attempt) < max(attempt) OR min(crashes) < max(crashes) OR min(maximum) < max(maximum) AS differ,
        ARRAY(SELECT id FROM taken ORDER BY place, seq) AS ids,
        ARRAY(SELECT id FROM gone ORDER BY id) AS sorted,
        ARRAY(SELECT DISTINCT event_type FROM place WHERE i IN (SELECT place FROM taken) ORDER BY event_type) AS event_types
    FROM taken
    HAVING count(*) > 0
),
-- Members are numbered from 0, by their places, in each the oldest first. The caller numbers them in the same way.
recorded AS (
    INSERT INTO tickr_claims (
        token, worker, worker_name, solo, at, id_min, id_max, span, ids, attempts, crashes, maxes, event_types, types
    )
    SELECT
        $4, $2, $3, $5, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond',
        a.sorted[1], a.sorted[cardinality(a.sorted)], tickr_span(a.sorted[1], a.sorted[cardinality(a.sorted)]), a.ids,
        coalesce(l.attempts, ARRAY[a.attempt]), coalesce(l.crashes, ARRAY[a.crashes]), coalesce(l.maxes, ARRAY[a.maximum]),
        a.event_types, coalesce(l.types, ARRAY[1::smallint])
    FROM alike a
    CROSS JOIN LATERAL (
        SELECT array_agg(attempt) AS attempts, array_agg(crashes) AS crashes, array_agg(maximum) AS maxes, array_agg(type) AS types
        FROM (
            SELECT t.attempt, t.crashes, t.maximum, k.type
            FROM taken t
            -- Only of places that something was taken from: of many types most have nothing. Not in WHERE: the planner would
            -- expect so few places that it compares each with each member.
            JOIN (
                SELECT i, CASE WHEN i IN (SELECT place FROM taken) THEN array_position(a.event_types, event_type)::smallint END AS type
                FROM place
                OFFSET 0
            ) k ON k.i = t.place
            WHERE a.differ OR cardinality(a.event_types) > 1
            ORDER BY t.place, t.seq
        ) m
    ) l
    RETURNING token, worker, cardinality(ids) AS members
),
opened AS (
    INSERT INTO tickr_open_claims (token, worker, settled, revoked)
    SELECT token, worker, repeat('0', members)::varbit, repeat('0', members)::varbit
    FROM recorded
)
-- A body that is missing is reported, never dropped. Without an order: wide rows are dear to sort.
-- The place of a message determines its type, its lane, and what its group allows.
SELECT
    t.place, t.seq, t.id, t.attempt, t.crashes, t.payload, t.created_at, t.priority, t.max_attempts, t.scheduled_at, t.content_type,
    t.headers, t.texts,
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
    CASE
        WHEN t.place IS NULL THEN (
            -- An infinite moment has no difference to another.
            SELECT (extract(epoch FROM least(s.process_at, statement_timestamp() + INTERVAL '1 year') - statement_timestamp())
                * 1000000)::bigint - $1
            FROM tickr_scheduled s
            WHERE s.process_at > $14
            ORDER BY s.process_at
            LIMIT 1
        )
    END AS quiet
FROM (VALUES (1)) one (n)
LEFT JOIN taken t ON true
