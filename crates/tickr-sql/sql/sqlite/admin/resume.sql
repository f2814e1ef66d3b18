DELETE FROM tickr_paused
WHERE event_type = ?1
