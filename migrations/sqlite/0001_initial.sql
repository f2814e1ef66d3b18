-- tickr for SQLite, schema version 1.
--
-- Conventions: ids and tokens are 16-byte blobs (UUID, big-endian), times are microseconds since 1970-01-01T00:00:00Z,
-- bitmaps have one bit a member (member i is bit i % 8, least significant first, of byte i / 8). Lists of small numbers
-- (attempts, crashes, maxes, types) are little-endian 16-bit numbers, one a member; two bytes alone stand for all members.
--
-- The file is one script: it is run as a whole inside one transaction, never split at a semicolon, and records itself.

CREATE TABLE tickr_migrations (
    version       INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL,
    applied_at    INTEGER NOT NULL,
    readable_from INTEGER NOT NULL   -- the oldest schema version whose library may still work with this one
) STRICT;

-- One row a counter. 'seq': the last place given out in tickr_ready; rowids would be used again after the queue ran empty.
-- 'purged_settlement', 'purged_member': bodies were purged for every settlement before this row of tickr_settlements, and in
-- this row for members before this one. A success from before proves nothing any more: its id may have been enqueued again.
CREATE TABLE tickr_counters (
    name  TEXT    PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO tickr_counters (name, value) VALUES ('seq', 0), ('purged_settlement', 0), ('purged_member', 0);

-- The bodies. Inserted once, never updated; deleted because a success was settled, or with a dead letter.
CREATE TABLE tickr_messages (
    id              BLOB    PRIMARY KEY,
    event_type      TEXT    NOT NULL,
    payload         BLOB    NOT NULL,
    headers         TEXT,             -- a JSON object of strings
    content_type    TEXT,
    idempotency_key TEXT,
    ordering_key    TEXT,
    tenant          TEXT,
    organisation    TEXT,
    correlation_id  TEXT,
    priority        INTEGER NOT NULL, -- 1 high, 2 normal, 3 low
    max_attempts    INTEGER,
    scheduled_at    INTEGER,
    created_at      INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What can be claimed. lane: 0 returned, 1 high, 2 normal, 3 low, 4 suspect. Rows are inserted and deleted, NEVER updated.
CREATE TABLE tickr_ready (
    event_type TEXT    NOT NULL,
    lane       INTEGER NOT NULL,
    seq        INTEGER NOT NULL,
    id         BLOB    NOT NULL,
    attempt    INTEGER NOT NULL,
    crashes    INTEGER NOT NULL,
    PRIMARY KEY (event_type, lane, seq)
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX tickr_ready_id ON tickr_ready (id);

-- What is due later, for the first time or again. Rows are inserted and deleted, NEVER updated.
CREATE TABLE tickr_scheduled (
    id         BLOB    PRIMARY KEY,
    process_at INTEGER NOT NULL,
    event_type TEXT    NOT NULL,
    lane       INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    crashes    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tickr_scheduled_process_at ON tickr_scheduled (process_at);
CREATE INDEX tickr_scheduled_event_type ON tickr_scheduled (event_type);

-- One row a worker incarnation.
CREATE TABLE tickr_workers (
    id          BLOB    PRIMARY KEY,
    name        TEXT    NOT NULL,
    event_types TEXT    NOT NULL,    -- a JSON array of strings
    idle        INTEGER NOT NULL,
    started_at  INTEGER NOT NULL,
    expires_at  INTEGER NOT NULL,
    lease       INTEGER NOT NULL,    -- how long a whole lease is
    lost        INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Journal: one row a claim. Append-only.
CREATE TABLE tickr_claims (
    n           INTEGER PRIMARY KEY,
    token       BLOB    NOT NULL UNIQUE,
    worker      BLOB    NOT NULL,
    worker_name TEXT    NOT NULL,
    solo        INTEGER NOT NULL,
    at          INTEGER NOT NULL,
    id_min      BLOB    NOT NULL,
    id_max      BLOB    NOT NULL,
    span        INTEGER NOT NULL,    -- how far apart they are, in base 4: the digits of the milliseconds
    ids         BLOB    NOT NULL,    -- 16 bytes a member
    attempts    BLOB    NOT NULL,    -- the attempt that began
    crashes     BLOB    NOT NULL,
    maxes       BLOB    NOT NULL,    -- the effective maximum of attempts
    event_types TEXT    NOT NULL,    -- a JSON array: the distinct event types
    types       BLOB    NOT NULL     -- positions in event_types
) STRICT;

-- The claims of a message: among those of a span, id_max is not further behind the message's id than the span is wide. So each of
-- the 25 spans is one short range, however many claims there are.
CREATE INDEX tickr_claims_ids ON tickr_claims (span, id_max, id_min);

-- The fence: one row an unsettled claim. Every outcome writes it; it is gone when settled | revoked is full.
CREATE TABLE tickr_open_claims (
    token   BLOB    PRIMARY KEY REFERENCES tickr_claims (token),
    worker  BLOB    NOT NULL REFERENCES tickr_workers (id),
    members INTEGER NOT NULL,
    settled BLOB    NOT NULL,
    revoked BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tickr_open_claims_worker ON tickr_open_claims (worker);

-- Journal: how members of claims ended. Append-only; the masks of one token are disjoint, and full when it is closed.
CREATE TABLE tickr_settlements (
    n       INTEGER PRIMARY KEY AUTOINCREMENT,
    token   BLOB    NOT NULL,
    outcome TEXT    NOT NULL,
    mask    BLOB    NOT NULL,
    at      INTEGER NOT NULL
) STRICT;

CREATE INDEX tickr_settlements_token ON tickr_settlements (token);

-- Journal: what is rare (failed, retried, dead, killed, ...), by message. attempt is the one that ended.
CREATE TABLE tickr_transitions (
    n       INTEGER PRIMARY KEY,
    id      BLOB    NOT NULL,
    token   BLOB,
    outcome TEXT    NOT NULL,
    attempt INTEGER NOT NULL,
    error   TEXT,
    at      INTEGER NOT NULL
) STRICT;

CREATE INDEX tickr_transitions_id ON tickr_transitions (id);

-- Dead letters.
CREATE TABLE tickr_dead (
    id         BLOB    PRIMARY KEY,
    event_type TEXT    NOT NULL,
    attempt    INTEGER NOT NULL,
    reason     TEXT    NOT NULL,
    died_at    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX tickr_dead_event_type ON tickr_dead (event_type);
CREATE INDEX tickr_dead_died_at ON tickr_dead (died_at);

-- Idempotency keys, with a retention of their own.
CREATE TABLE tickr_dedupe (
    event_type TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    id         BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (event_type, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX tickr_dedupe_expires_at ON tickr_dedupe (expires_at);

-- What is not claimed. The empty event type stands for all of them. A pause is over once its end has come, without a write; one
-- without an end lasts until somebody resumes.
CREATE TABLE tickr_paused (
    event_type TEXT    PRIMARY KEY,
    paused_at  INTEGER NOT NULL,
    until      INTEGER,
    actor      TEXT,
    reason     TEXT
) STRICT, WITHOUT ROWID;

CREATE TABLE tickr_locks (
    name       TEXT    PRIMARY KEY,
    holder     BLOB    NOT NULL,
    term       INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    ttl        INTEGER NOT NULL    -- how long a whole lease is
) STRICT, WITHOUT ROWID;

-- Members of open claims that are still leased. For operators: the library reads the blobs itself.
CREATE VIEW tickr_leased AS
WITH RECURSIVE member (token, i) AS (
    SELECT token, 0 FROM tickr_open_claims
    UNION ALL
    SELECT m.token, m.i + 1
    FROM member m JOIN tickr_open_claims o ON o.token = m.token
    WHERE m.i + 1 < o.members
),
bits AS (
    SELECT
        o.token,
        m.i,
        substr(c.ids, m.i * 16 + 1, 16) AS id,
        c.worker_name,
        c.at,
        -- A byte as a number: its two hexadecimal digits.
        (instr('123456789ABCDEF', substr(hex(substr(o.settled, m.i / 8 + 1, 1)), 1, 1)) << 4)
            | instr('123456789ABCDEF', substr(hex(substr(o.settled, m.i / 8 + 1, 1)), 2, 1)) AS settled,
        (instr('123456789ABCDEF', substr(hex(substr(o.revoked, m.i / 8 + 1, 1)), 1, 1)) << 4)
            | instr('123456789ABCDEF', substr(hex(substr(o.revoked, m.i / 8 + 1, 1)), 2, 1)) AS revoked
    FROM member m
    JOIN tickr_open_claims o ON o.token = m.token
    JOIN tickr_claims c ON c.token = m.token
)
SELECT id, token, i AS member, worker_name, at AS claimed_at
FROM bits
WHERE ((settled | revoked) >> (i % 8)) & 1 = 0;

-- Where a message stands, for operators: SELECT * FROM tickr_message_status WHERE uuid = '...' is a scan,
-- WHERE id = unhex(replace('...', '-', '')) is a look-up. A body without any state and without a recorded success reads LOST.
CREATE VIEW tickr_message_status AS
SELECT
    m.id,
    lower(substr(hex(m.id), 1, 8) || '-' || substr(hex(m.id), 9, 4) || '-' || substr(hex(m.id), 13, 4) || '-'
        || substr(hex(m.id), 17, 4) || '-' || substr(hex(m.id), 21, 12)) AS uuid,
    m.event_type,
    m.tenant,
    CASE
        WHEN r.id IS NOT NULL THEN iif(r.attempt = 0 AND r.crashes = 0, 'CREATED', 'RETRYING')
        WHEN s.id IS NOT NULL THEN iif(s.attempt = 0 AND s.crashes = 0, 'CREATED', 'RETRYING')
        WHEN d.id IS NOT NULL THEN 'DEAD'
        WHEN m.id IN (SELECT l.id FROM tickr_leased l) THEN 'HANDLING'
        WHEN EXISTS (
            SELECT 1
            FROM tickr_claims c
            JOIN tickr_settlements e ON e.token = c.token AND e.outcome IN ('ok', 'skipped')
            WHERE c.span IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24)
              AND c.id_max >= m.id
              AND c.id_min <= m.id
              AND instr(c.ids, m.id) > 0   -- cheap; where it is not at the beginning of a member, the next lines decide
              AND EXISTS (
                  WITH RECURSIVE place (i) AS (
                      SELECT 0
                      UNION ALL
                      SELECT i + 1 FROM place WHERE (i + 1) * 16 < length(c.ids)
                  )
                  SELECT 1
                  FROM place
                  WHERE substr(c.ids, i * 16 + 1, 16) = m.id
                    AND (e.n, i)
                        >= (SELECT p.value, q.value FROM tickr_counters p, tickr_counters q
                            WHERE p.name = 'purged_settlement' AND q.name = 'purged_member')
                    AND (((instr('123456789ABCDEF', substr(hex(substr(e.mask, i / 8 + 1, 1)), 1, 1)) << 4)
                        | instr('123456789ABCDEF', substr(hex(substr(e.mask, i / 8 + 1, 1)), 2, 1)))
                        >> (i % 8)) & 1 = 1
              )
        ) THEN 'SUCCESS'
        ELSE 'LOST'
    END AS status,
    coalesce(r.attempt, s.attempt, d.attempt) AS attempt,
    s.process_at AS due_at,
    d.reason AS dead_reason,
    m.created_at
FROM tickr_messages m
LEFT JOIN tickr_ready r ON r.id = m.id
LEFT JOIN tickr_scheduled s ON s.id = m.id
LEFT JOIN tickr_dead d ON d.id = m.id;

INSERT INTO tickr_migrations (version, name, applied_at, readable_from)
VALUES (1, 'initial', unixepoch() * 1000000, 1);
