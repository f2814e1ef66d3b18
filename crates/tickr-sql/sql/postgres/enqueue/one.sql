-- Stores one message without a key that is due at once, as most are: what a batch needs costs a single message a third more.
-- $1 offset of the clock in microseconds, $2 channel; the message $3-$13, in the order of plain.sql.
-- $14: in a transaction whose isolation the caller answers for. Alone it is written for READ COMMITTED, and to be durable when it is
-- answered: it stores nothing where the database's default is another isolation, where commits do not wait for the disk, in another
-- encoding, and inside a transaction that somebody left open (mark.sql).
-- Primary key of messages. An idle worker of the type is notified at commit; a busy one polls anyway.
WITH stored AS (
    INSERT INTO tickr_messages (
        id, created_at, max_attempts, priority, event_type, payload, headers, content_type, ordering_key, tenant, organisation,
        correlation_id
    )
    SELECT $3, clock_timestamp() + $1::bigint * INTERVAL '1 microsecond', $13, $12, $4, $5, $6, $7, $8, $9, $10, $11
    WHERE $14
       OR (
           current_setting('transaction_isolation') = 'read committed'
           AND current_setting('tickr.inside', true) IS DISTINCT FROM 'yes'
           AND current_setting('synchronous_commit') <> 'off'
           AND current_setting('client_encoding') = 'UTF8'
       )
    ON CONFLICT (id) DO NOTHING   -- the same id again: stored before, nothing more happens
    RETURNING id
)
INSERT INTO tickr_ready (event_type, lane, id, attempt, crashes)
SELECT $4, $12, id, 0, 0
FROM stored
WHERE (
    SELECT count(pg_notify($2, $4))
    FROM (
        SELECT
        FROM tickr_workers w
        WHERE w.idle
          AND NOT w.lost
          AND w.expires_at > statement_timestamp() + $1::bigint * INTERVAL '1 microsecond'
          AND $4 = ANY (w.event_types)
        LIMIT 1
    ) told
) >= 0
