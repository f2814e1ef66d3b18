-- Whether a type is not to be claimed. Primary key.
SELECT EXISTS (
    SELECT 1
    FROM tickr_paused
    WHERE event_type = ?1
)
