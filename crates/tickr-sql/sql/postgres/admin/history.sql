-- Every claim of a message that the journal still has, and how it ended. Index on (span, id_max, id_min) of claims, a short range of
-- each span; on token of settlements.
SELECT
    k.token, k.worker_name, k.at, coalesce(k.attempts[k.i], k.attempts[1]) AS attempt, s.outcome, s.at AS ended_at
FROM (
    SELECT c.token, c.worker_name, c.at, c.attempts, array_position(c.ids, $1) AS i
    FROM (SELECT ('x' || translate(left($1::uuid::text, 13), '-', ''))::bit(48)::bigint AS ms OFFSET 0) b
    CROSS JOIN generate_series(0, 24) n
    CROSS JOIN LATERAL (
        SELECT *
        FROM tickr_claims c
        WHERE c.span = n
          AND c.id_max >= $1
          AND c.id_max <= rpad(lpad(to_hex(least(b.ms + (1::bigint << 2 * n), 281474976710655)), 12, '0'), 32, 'f')::uuid
          AND c.id_min <= $1
        OFFSET 0   -- found by id, whatever the order is to be
    ) c
) k
LEFT JOIN LATERAL (
    SELECT x.outcome, x.at
    FROM tickr_settlements x
    WHERE x.token = k.token
      AND CASE WHEN k.i <= length(x.mask) THEN get_bit(x.mask, k.i - 1) = 1 END
    OFFSET 0   -- a look-up a claim, never a join that reads everything
) s ON true
WHERE k.i IS NOT NULL
ORDER BY k.at, k.token
