-- An open claim again, without the members that are settled or revoked; one row with idx NULL if there are none.
-- Primary keys of open_claims, claims and messages.
WITH claim AS MATERIALIZED (   -- once, not once per member
    SELECT o.token, c.solo, cardinality(c.ids) AS members
    FROM tickr_open_claims o
    JOIN tickr_claims c ON c.token = o.token
    WHERE o.token = $1
)
SELECT
    b.id, l.event_type, b.payload, b.headers, b.content_type, b.idempotency_key, b.ordering_key, b.tenant, b.organisation,
    b.correlation_id, b.priority, b.max_attempts, b.scheduled_at, b.created_at,
    l.member AS idx, l.id, l.attempt, l.max_attempts AS maximum, l.crashes,
    CASE
        WHEN l.attempt > 1 THEN (
            SELECT x.error
            FROM tickr_transitions x
            WHERE x.id = l.id
              AND x.error IS NOT NULL
            ORDER BY x.n DESC
            LIMIT 1
        )
    END AS last_error,
    k.solo,
    k.members
FROM claim k
LEFT JOIN tickr_leased l ON l.token = $1
LEFT JOIN LATERAL (SELECT * FROM tickr_messages m WHERE m.id = l.id OFFSET 0) b ON true
ORDER BY l.member
