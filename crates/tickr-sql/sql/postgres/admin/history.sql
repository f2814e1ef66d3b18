-- Every claim of a message that the journal still has, and how it ended. Index on (id_max, id_min) of claims, on token of settlements.
SELECT
    k.token, k.worker_name, k.at, coalesce(k.attempts[k.i], k.attempts[1]) AS attempt, s.outcome, s.at AS ended_at
FROM (
    SELECT c.token, c.worker_name, c.at, c.attempts, array_position(c.ids, $1) AS i
    FROM tickr_claims c
    WHERE c.id_max >= $1
      AND c.id_min <= $1
    OFFSET 0   -- found by id, whatever the order is to be
) k
LEFT JOIN LATERAL (
    SELECT x.outcome, x.at
    FROM tickr_settlements x
    WHERE x.token = k.token
      AND get_bit(x.mask, k.i - 1) = 1
    OFFSET 0   -- a look-up a claim, never a join that reads everything
) s ON true
WHERE k.i IS NOT NULL
ORDER BY k.at, k.token
