-- Whether a worker is to be condemned, or was and holds something. $1 offset of the clock in microseconds, $2 whether to condemn.
-- workers is tiny.
SELECT EXISTS (
    SELECT
    FROM tickr_workers
    WHERE lost
       OR ($2 AND expires_at <= statement_timestamp() + $1::bigint * INTERVAL '1 microsecond')
)
