-- Fills an empty schema for `cargo xtask plans`, with the functions of sample.sql. Everything follows from the number of a message:
-- its id and its time, its type, and what became of it. Numbers grow with time:
--
--   -purged+1 .. 0    succeeded, and purged: the journal is left
--   1 .. finished     bodies; claims of `members`; every 50th failed once and was claimed again, every 500th is dead after that
--   then `scheduled`  a fifth of them due
--   then `ready`      over all types and lanes
--   then `open` claims of `members` each, and one more that runs solo
--
-- Given as variables of psql: purged and finished (multiples of 50 claims), scheduled, ready, open, members.

-- Worker 1 has most of the open claims, 2 some; 3 was condemned and has two; 4 is expired, and 5 was condemned and has none; 6 sleeps.
INSERT INTO tickr_workers (id, name, event_types, idle, started_at, expires_at, lease, lost)
SELECT
    sample.uuid('worker', n), 'worker-' || n, ARRAY(SELECT sample.type(t) FROM generate_series(0, 19) t), n = 6,
    now() - INTERVAL '1 day', now() + CASE WHEN n = 4 THEN -1 ELSE 24 END * INTERVAL '1 hour', INTERVAL '1 day', n IN (3, 5)
FROM generate_series(1, 8) n;
INSERT INTO tickr_paused (event_type, paused_at, until) VALUES (sample.type(49), now(), 'infinity');
INSERT INTO tickr_locks (name, holder, term, expires_at, ttl)
SELECT name, sample.uuid('worker', 1), 7, now() + INTERVAL '1 hour', INTERVAL '1 hour'
FROM unnest(ARRAY['purge', 'reclaim', 'suspects']) name;

-- The finished ones of one claim are of one type; what waits is of all types by turns.
INSERT INTO tickr_messages (id, created_at, scheduled_at, max_attempts, priority, event_type, payload, idempotency_key, tenant)
SELECT
    sample.id(i), sample.at(i), NULL, NULL, 2,
    sample.type(CASE WHEN i <= :finished THEN (i - 1) / :members ELSE i END),
    decode(repeat(md5(i::text), 10), 'hex'),
    CASE WHEN i % 6 = 0 THEN 'key-' || i END,
    CASE WHEN i % 3 = 0 THEN 'tenant-' || i % 30 END
FROM generate_series(1, :last_number) i;

INSERT INTO tickr_dedupe (event_type, key, id, expires_at)
SELECT sample.type(CASE WHEN i <= :finished THEN (i - 1) / :members ELSE i END), 'key-' || i, sample.id(i), sample.at(i) + INTERVAL '7 days'
FROM generate_series(6, :last_number, 6) i;

INSERT INTO tickr_scheduled (process_at, id, attempt, crashes, lane, event_type)
SELECT now() + (n - :scheduled / 5) * INTERVAL '10 seconds', sample.id(i), 0, 0, 2, sample.type(i)
FROM generate_series(1, :scheduled) n
CROSS JOIN LATERAL (SELECT :finished + n AS i) m;

-- Of a hundred of a type two were returned, five are urgent, three can wait; a few are suspects.
INSERT INTO tickr_ready (attempt, crashes, lane, id, event_type)
SELECT
    CASE WHEN place IN (0, 1) OR suspect THEN 1 ELSE 0 END,
    CASE WHEN suspect THEN 1 ELSE 0 END,
    CASE WHEN suspect THEN 4 WHEN place < 2 THEN 0 WHEN place < 7 THEN 1 WHEN place < 10 THEN 3 ELSE 2 END,
    sample.id(i),
    sample.type(i)
FROM generate_series(:finished + :scheduled + 1, :finished + :scheduled + :ready) i
CROSS JOIN LATERAL (SELECT (i / 50) % 100 AS place, (i / 50) % 1000 = 777 AS suspect) p
ORDER BY i;

-- First claims.
INSERT INTO tickr_claims (token, worker, at, id_min, id_max, span, solo, worker_name, attempts, crashes, maxes, event_types, types, ids)
SELECT
    sample.uuid('first', c), sample.uuid('worker', 1), sample.at(c * :members) + INTERVAL '10 minutes',
    sample.id((c - 1) * :members + 1), sample.id(c * :members), tickr_span(sample.id((c - 1) * :members + 1), sample.id(c * :members)),
    false, 'worker-1',
    '{1}', '{0}', '{10}', ARRAY[sample.type(c - 1 + :purged / :members)], '{1}',
    sample.ids((c - 1) * :members + 1, c * :members)
FROM generate_series(1 - :purged / :members, :finished / :members) c
ORDER BY c;

-- Every 50th of 50 claims, claimed again.
INSERT INTO tickr_claims (token, worker, at, id_min, id_max, span, solo, worker_name, attempts, crashes, maxes, event_types, types, ids)
SELECT
    sample.uuid('again', g), sample.uuid('worker', 2), sample.at(g * 50 * :members) + INTERVAL '20 minutes',
    sample.id((g - 1) * 50 * :members + 50), sample.id(g * 50 * :members),
    tickr_span(sample.id((g - 1) * 50 * :members + 50), sample.id(g * 50 * :members)), false, 'worker-2',
    '{2}', '{0}', '{10}', ARRAY(SELECT sample.type(t) FROM generate_series(0, 49) t),
    ARRAY(SELECT ((j - 1) / (:members / 50) + 1)::smallint FROM generate_series(1, :members) j),
    ARRAY(SELECT sample.id((g - 1) * 50 * :members + j * 50) FROM generate_series(1, :members) j)
FROM generate_series(1 - :purged / :members / 50, :finished / :members / 50) g
ORDER BY g;

-- Bodies prove something as long as they are there.
INSERT INTO tickr_settlements (token, at, proves_from, outcome, mask)
SELECT k.token, k.at + INTERVAL '1 second', CASE WHEN k.id_max > sample.id(0) AND o.proof THEN 0 END, o.outcome, m.mask
FROM tickr_claims k
CROSS JOIN (VALUES ('{1}'::integer[], 'ok', 50, true), ('{1}', 'failed', 50, false), ('{2}', 'ok', 10, true), ('{2}', 'exhausted', 10, false))
    o (attempts, outcome, every, proof)
JOIN LATERAL (
    SELECT string_agg(CASE WHEN (i % o.every = 0) = o.proof THEN '0' ELSE '1' END, '')::varbit AS mask
    FROM generate_series(1, :members) i
) m ON true
WHERE k.attempts = o.attempts
ORDER BY k.at;

INSERT INTO tickr_transitions (id, token, at, attempt, outcome, error)
SELECT sample.id(i), t.token, sample.at(i) + t.after, t.attempt, t.outcome, 'connection refused by warehouse-' || i % 7
FROM generate_series(50 - :purged, :finished, 50) i
CROSS JOIN LATERAL (
    VALUES
        (sample.uuid('first', (i - 1 + :purged) / :members + 1 - :purged / :members), INTERVAL '11 minutes', 1, 'failed'),
        (
            CASE WHEN i % 500 = 0 THEN sample.uuid('again', (i - 1 + :purged) / :members / 50 + 1 - :purged / :members / 50) END,
            INTERVAL '21 minutes', 2, 'exhausted'
        )
) t (token, after, attempt, outcome)
WHERE t.token IS NOT NULL
ORDER BY i, t.attempt;

INSERT INTO tickr_transitions (id, at, attempt, outcome, error)
SELECT id, now() - INTERVAL '5 minutes', attempt, 'released', 'the worker was stopped'
FROM tickr_ready
WHERE attempt > 0
ORDER BY seq;

INSERT INTO tickr_dead (id, died_at, attempt, event_type, reason)
SELECT sample.id(i), sample.at(i) + INTERVAL '21 minutes', 2, sample.type((i - 1) / :members), 'connection refused by warehouse-' || i % 7
FROM generate_series(500, :finished, 500) i;

-- Open claims, of the newest messages: nothing of them is settled but the first half of every fourth. The last one runs solo.
INSERT INTO tickr_claims (token, worker, at, id_min, id_max, span, solo, worker_name, attempts, crashes, maxes, event_types, types, ids)
SELECT
    sample.uuid('open', c), sample.uuid('worker', w.n), now() - INTERVAL '10 seconds', ids[1], ids[cardinality(ids)],
    tickr_span(ids[1], ids[cardinality(ids)]), c > :open,
    'worker-' || w.n, '{1}', '{0}', '{10}', ARRAY[sample.type(c)], '{1}', ids
FROM generate_series(1, :open + 1) c
CROSS JOIN LATERAL (SELECT CASE WHEN c <= 10 THEN 1 WHEN c <= 14 THEN 2 WHEN c <= 16 THEN 3 ELSE 7 END AS n) w
CROSS JOIN LATERAL (
    SELECT sample.ids(first, CASE WHEN c > :open THEN first ELSE first + :members - 1 END) AS ids
    FROM (SELECT :finished + :scheduled + :ready + (c - 1) * :members + 1 AS first) f
) m
ORDER BY c;

INSERT INTO tickr_open_claims (token, worker, settled, revoked)
SELECT
    k.token, k.worker,
    CASE WHEN c > 10 AND c % 4 = 0 THEN repeat('1', n / 2) || repeat('0', n - n / 2) ELSE repeat('0', n) END::varbit,
    repeat('0', n)::varbit
FROM generate_series(1, :open + 1) c
JOIN tickr_claims k ON k.token = sample.uuid('open', c)
CROSS JOIN LATERAL (SELECT cardinality(k.ids) AS n) s;

INSERT INTO tickr_settlements (token, at, proves_from, outcome, mask)
SELECT token, now() - INTERVAL '1 second', 0, 'ok', settled
FROM tickr_open_claims
WHERE position(B'1' IN settled) > 0;
