-- Counts at most ?2 rows of a type. Index on event_type.
SELECT count(*)
FROM (
    SELECT 1
    FROM tickr_dead
    WHERE event_type = ?1
    LIMIT ?2
)
