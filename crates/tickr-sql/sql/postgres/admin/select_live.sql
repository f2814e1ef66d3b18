-- The oldest messages of a type and tenant (absent: all) that are ready, scheduled or leased: the oldest of each, of these the
-- oldest. Index on id of ready, primary keys of scheduled and messages; open_claims is small.
SELECT x.id
FROM (
    (
        SELECT r.id
        FROM tickr_ready r
        WHERE ($1::text IS NULL OR r.event_type = $1)
          AND ($2::text IS NULL OR (SELECT m.tenant FROM tickr_messages m WHERE m.id = r.id) = $2)
        ORDER BY r.id
        LIMIT $3
    )
    UNION ALL
    (
        SELECT s.id
        FROM tickr_scheduled s
        WHERE ($1::text IS NULL OR s.event_type = $1)
          AND ($2::text IS NULL OR (SELECT m.tenant FROM tickr_messages m WHERE m.id = s.id) = $2)
        ORDER BY s.id
        LIMIT $3
    )
    UNION ALL
    (
        SELECT l.id
        FROM tickr_leased l
        WHERE ($1::text IS NULL OR l.event_type = $1)
          AND ($2::text IS NULL OR (SELECT m.tenant FROM tickr_messages m WHERE m.id = l.id) = $2)
        ORDER BY l.id
        LIMIT $3
    )
) x
ORDER BY x.id
LIMIT $3
