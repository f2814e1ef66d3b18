-- Counts at most ?2 rows of a type: all, and those that were never tried. Index on event_type.
SELECT count(*), coalesce(sum(attempt = 0 AND crashes = 0), 0)
FROM (
    SELECT attempt, crashes
    FROM tickr_scheduled
    WHERE event_type = ?1
    LIMIT ?2
)
