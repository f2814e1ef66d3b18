-- The pauses in force: that of everything first, whose event type is empty, then types by name. $1 offset of the clock in microseconds.
-- paused is tiny.
SELECT event_type, paused_at, nullif(until, 'infinity') AS until, actor, reason
FROM tickr_paused
WHERE until > clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
ORDER BY event_type
