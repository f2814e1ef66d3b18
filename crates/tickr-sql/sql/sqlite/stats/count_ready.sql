-- Counts at most ?3 rows of a lane: all, and those that were never tried.
SELECT count(*), coalesce(sum(attempt = 0 AND crashes = 0), 0)
FROM (
    SELECT attempt, crashes
    FROM tickr_ready
    WHERE event_type = ?1
      AND lane = ?2
    LIMIT ?3
)
