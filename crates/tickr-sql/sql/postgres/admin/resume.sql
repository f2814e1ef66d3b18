-- Allows claims of a type ($2; empty: of everything) again. $1 offset of the clock in microseconds.
-- One row, whether the pause was still in force; none if there was none. Primary key.
DELETE FROM tickr_paused
WHERE event_type = $2
RETURNING until > clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS paused
