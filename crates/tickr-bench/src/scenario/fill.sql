-- Fills an empty schema for the scenario `full`, on PostgreSQL: $finished messages that succeeded, in claims of 500 over 50 types,
-- then $delayed ones that are due tomorrow, then $capped ones that wait behind the limit of their type.
-- SCHEMA, FINISHED, DELAYED and CAPPED are put in by the benchmark; ids are UUIDs of version 7, a hundredth of a second apart.
CREATE FUNCTION SCHEMA.bench_id(i bigint) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (
        lpad(to_hex(1780000000000 + i * 10), 12, '0') || '7' || substr(md5(i::text), 1, 3) || '8' || substr(md5(i::text), 4, 15)
    )::uuid
$$;

INSERT INTO SCHEMA.tickr_messages (id, created_at, scheduled_at, priority, event_type, payload)
SELECT
    SCHEMA.bench_id(i),
    now() - INTERVAL '1 hour' + i * INTERVAL '100 microseconds',
    CASE WHEN i > FINISHED AND i <= FINISHED + DELAYED THEN now() + INTERVAL '1 day' END,
    2,
    CASE WHEN i > FINISHED + DELAYED THEN 'capped' ELSE 'type-' || (i / 500) % 50 END,
    '\x78787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878787878'
FROM generate_series(1, FINISHED + DELAYED + CAPPED) i;

INSERT INTO SCHEMA.tickr_claims (
    token, worker, at, id_min, id_max, span, solo, worker_name, attempts, crashes, maxes, event_types, types, ids
)
SELECT
    SCHEMA.bench_id(c * 500), SCHEMA.bench_id(1), now() - INTERVAL '1 hour' + c * INTERVAL '50 milliseconds',
    SCHEMA.bench_id((c - 1) * 500 + 1), SCHEMA.bench_id(c * 500),
    SCHEMA.tickr_span(SCHEMA.bench_id((c - 1) * 500 + 1), SCHEMA.bench_id(c * 500)),
    false, 'filler', '{1}', '{0}', '{10}', ARRAY['type-' || c % 50], '{1}',
    ARRAY(SELECT SCHEMA.bench_id(i) FROM generate_series((c - 1) * 500 + 1, c * 500) i)
FROM generate_series(1, FINISHED / 500) c;

INSERT INTO SCHEMA.tickr_settlements (token, at, proves_from, outcome, mask)
SELECT token, at, 0, 'ok', repeat('1', 500)::varbit
FROM SCHEMA.tickr_claims
ORDER BY at;

INSERT INTO SCHEMA.tickr_scheduled (process_at, id, attempt, crashes, lane, event_type)
SELECT now() + INTERVAL '1 day' + i * INTERVAL '1 millisecond', SCHEMA.bench_id(i), 0, 0, 2, 'type-' || (i / 500) % 50
FROM generate_series(FINISHED + 1, FINISHED + DELAYED) i;

INSERT INTO SCHEMA.tickr_ready (attempt, crashes, lane, id, event_type)
SELECT 0, 0, 2, SCHEMA.bench_id(i), 'capped'
FROM generate_series(FINISHED + DELAYED + 1, FINISHED + DELAYED + CAPPED) i;

VACUUM ANALYZE;
