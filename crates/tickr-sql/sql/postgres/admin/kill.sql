-- Makes messages DEAD, wherever this statement sees them; one that moves meanwhile is found by the next round.
-- $1 offset of the clock in microseconds, $2 ids, $3 why, $4 whether transitions are recorded.
-- Index on id of ready, primary key of scheduled, open_claims (small) with the primary key of claims.
WITH from_ready AS (
    DELETE FROM tickr_ready
    WHERE id = ANY ($2)
    RETURNING id, event_type, attempt
),
from_scheduled AS (
    DELETE FROM tickr_scheduled
    WHERE id = ANY ($2)
    RETURNING id, event_type, attempt
),
candidate AS MATERIALIZED (
    SELECT token, id, member, event_type, attempt
    FROM tickr_leased
    WHERE id = ANY ($2)
),
held AS MATERIALIZED (
    SELECT token, settled, revoked
    FROM tickr_open_claims
    WHERE token IN (SELECT token FROM candidate)
    ORDER BY token
    FOR UPDATE
),
hit AS MATERIALIZED (
    SELECT c.*, length(h.settled) AS members
    FROM candidate c
    JOIN held h ON h.token = c.token
    WHERE get_bit(h.settled | h.revoked, c.member) = 0
),
bits AS MATERIALIZED (
    SELECT token, bit_or(set_bit(repeat('0', members)::bit varying, member, 1)) AS mask
    FROM hit
    GROUP BY token
),
closed AS (
    DELETE FROM tickr_open_claims o
    USING bits b, held h
    WHERE o.token = b.token
      AND h.token = b.token
      AND position(B'0' IN (h.settled | h.revoked | b.mask)) = 0
),
kept AS (
    UPDATE tickr_open_claims o
    SET revoked = h.revoked | b.mask
    FROM bits b, held h
    WHERE o.token = b.token
      AND h.token = b.token
      AND position(B'0' IN (h.settled | h.revoked | b.mask)) > 0
),
log AS (
    INSERT INTO tickr_settlements (token, outcome, mask, at)
    SELECT token, 'killed', mask, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM bits
),
gone AS MATERIALIZED (
    SELECT id, event_type, attempt, NULL::uuid AS token FROM from_ready
    UNION ALL
    SELECT id, event_type, attempt, NULL FROM from_scheduled
    UNION ALL
    SELECT id, event_type, attempt, token FROM hit
),
dead AS (
    INSERT INTO tickr_dead (id, event_type, attempt, reason, died_at)
    SELECT id, event_type, attempt, 'killed: ' || $3::text, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM gone
),
transition AS (
    INSERT INTO tickr_transitions (id, token, outcome, attempt, error, at)
    SELECT id, token, 'killed', attempt, $3, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
    FROM gone
    WHERE $4
)
SELECT id
FROM gone
