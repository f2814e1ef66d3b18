-- Deletes bodies of what succeeded, in the order of the successes, and remembers that these proofs were used.
-- $1 offset of the clock in microseconds, $2 the retention in microseconds, $3 how many bodies.
-- Partial index on at of settlements, primary keys of claims and messages.
WITH locked AS MATERIALIZED (
    SELECT ctid AS tid, token, at, mask, proves_from
    FROM tickr_settlements
    WHERE proves_from IS NOT NULL
      AND at <= statement_timestamp() + ($1::bigint - $2::bigint) * INTERVAL '1 microsecond'
    ORDER BY at
    LIMIT least($3::bigint, 100)
    FOR UPDATE SKIP LOCKED
),
-- No more of them than the bodies need.
proof AS MATERIALIZED (
    SELECT *
    FROM (
        SELECT l.*, row_number() OVER w AS p, sum(bit_count(l.mask)) OVER w - bit_count(l.mask) AS bodies_before
        FROM locked l
        WINDOW w AS (ORDER BY l.at, l.token, l.tid)
    ) l
    WHERE l.bodies_before < $3
),
member AS MATERIALIZED (
    SELECT p.p, (u.i - 1)::integer AS idx, u.id, row_number() OVER (ORDER BY p.p, u.i) AS n
    FROM proof p
    CROSS JOIN LATERAL (
        SELECT k.ids
        FROM tickr_claims k
        WHERE k.token = p.token
        OFFSET 0
    ) k
    CROSS JOIN LATERAL unnest(k.ids) WITH ORDINALITY u (id, i)
    WHERE u.i > p.proves_from
      AND CASE WHEN u.i <= length(p.mask) THEN get_bit(p.mask, (u.i - 1)::integer) = 1 END
),
gone AS (
    DELETE FROM tickr_messages
    WHERE id = ANY (ARRAY(SELECT id FROM member WHERE n <= $3))
    RETURNING id
),
-- The first member that is left: its proof is used up to it, those before are used up, those behind are untouched.
rest AS MATERIALIZED (
    SELECT p, idx
    FROM member
    WHERE n = $3::bigint + 1
),
used AS (
    UPDATE tickr_settlements s
    SET proves_from = CASE WHEN p.p = (SELECT r.p FROM rest r) THEN (SELECT r.idx FROM rest r) END
    FROM proof p
    WHERE s.token = p.token
      AND s.ctid = p.tid
      AND p.p <= coalesce((SELECT r.p FROM rest r), p.p)
)
SELECT
    (SELECT count(*) FROM gone) AS bodies,
    (SELECT count(*) FROM member) > $3
        OR (SELECT count(*) FROM locked) > (SELECT count(*) FROM proof)
        OR (SELECT count(*) FROM locked) >= least($3::bigint, 100) AS more
