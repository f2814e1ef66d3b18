-- Says whether a type is paused, by primary key.
SELECT EXISTS (
    SELECT 1
    FROM tickr_paused
    WHERE event_type = ?1
)
