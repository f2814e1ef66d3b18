-- When the first message of a lane was enqueued and due, and when something last happened to it: one look. Index on id of transitions.
SELECT
    m.created_at,
    m.scheduled_at,
    (
        SELECT x.at
        FROM tickr_transitions x
        WHERE x.id = m.id
        ORDER BY x.n DESC
        LIMIT 1
    )
FROM (
    SELECT id
    FROM tickr_ready
    WHERE event_type = ?1
      AND lane = ?2
    ORDER BY seq
    LIMIT 1
) r
JOIN tickr_messages m ON m.id = r.id
