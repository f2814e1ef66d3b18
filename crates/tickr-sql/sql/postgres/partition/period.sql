-- The time that a partition stands for, in seconds; no row in the plain layout. $1 offset of the clock in microseconds.
SELECT partition_seconds, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond' AS now
FROM tickr_layout
