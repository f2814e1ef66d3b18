-- Whether a lane has anything. One look at the primary key (event_type, lane, seq).
SELECT EXISTS (
    SELECT 1
    FROM tickr_ready
    WHERE event_type = ?1
      AND lane = ?2
)
