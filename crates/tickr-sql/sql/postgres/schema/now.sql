-- The database's clock. $1: an offset in microseconds, for tests.
SELECT clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'
