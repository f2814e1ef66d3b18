-- Whether a worker is to be condemned, or was and holds something; and whether a lease is longer than its own length, because the
-- clock was set back. $1 offset of the clock in microseconds, $2 whether to condemn. workers is tiny.
SELECT
    coalesce(bool_or(lost OR ($2 AND expires_at <= statement_timestamp() + $1::bigint * INTERVAL '1 microsecond')), false) AS pending,
    coalesce(bool_or(NOT lost AND expires_at - lease > clock_timestamp() + $1::bigint * INTERVAL '1 microsecond'), false) AS ahead
FROM tickr_workers
