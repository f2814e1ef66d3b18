-- The sequence of places in the queue: its name, the highest place in use, and the next one that it gives out, NULL where the role may
-- not ask. It is behind its rows where the next is not above the highest: sequences are not replicated logically, and may be set by hand.
-- $1 the name of the table. Uses up one place. Primary key of ready: one look at the end of each lane.
WITH RECURSIVE lane AS (
    (
        SELECT event_type, lane
        FROM tickr_ready
        ORDER BY event_type, lane
        LIMIT 1
    )
    UNION ALL
    SELECT n.event_type, n.lane
    FROM lane l
    CROSS JOIN LATERAL (
        SELECT r.event_type, r.lane
        FROM tickr_ready r
        WHERE (r.event_type, r.lane) > (l.event_type, l.lane)
        ORDER BY r.event_type, r.lane
        LIMIT 1
    ) n
),
highest AS MATERIALIZED (
    SELECT coalesce(max(h.seq), 0) AS seq
    FROM lane l
    CROSS JOIN LATERAL (
        SELECT r.seq
        FROM tickr_ready r
        WHERE r.event_type = l.event_type
          AND r.lane = l.lane
        ORDER BY r.seq DESC
        LIMIT 1
    ) h
)
SELECT s.name, h.seq AS highest, CASE WHEN has_sequence_privilege(s.name, 'UPDATE') THEN nextval(s.name::regclass) END AS next
FROM (SELECT pg_get_serial_sequence($1::text, 'seq') AS name) s
CROSS JOIN highest h
