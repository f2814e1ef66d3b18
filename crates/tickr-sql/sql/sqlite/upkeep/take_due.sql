-- Takes the ?2 rows that are due longest at ?1. Index on process_at, ties by id. RETURNING promises no order.
DELETE FROM tickr_scheduled
WHERE id IN (
    SELECT id
    FROM tickr_scheduled
    WHERE process_at <= ?1
    ORDER BY process_at, id
    LIMIT ?2
)
RETURNING process_at, id, event_type, lane, attempt, crashes
