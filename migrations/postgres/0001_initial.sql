-- tickr for PostgreSQL, schema version 1.
--
-- Conventions: bitmaps have one bit a member, the first member leftmost. Lists of a claim (attempts, crashes, maxes, types)
-- have one number a member; one number alone stands for all members.
--
-- The script (this file, 0001_partitioned.sql in the partitioned layout, 0001_views.sql) is run as a whole inside one transaction,
-- never split at a semicolon, and records itself. Names of tables and views begin with tickr_; the library puts a configured schema
-- and prefix in their place.

CREATE TABLE tickr_migrations (
    version       integer     PRIMARY KEY,
    name          text        NOT NULL,
    applied_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    readable_from integer     NOT NULL   -- the oldest schema version whose library may still work with this one
);

-- One row, in the partitioned layout only: the time that a partition stands for.
CREATE TABLE tickr_layout (
    partition_seconds bigint PRIMARY KEY CHECK (partition_seconds >= 60)
);

-- The bodies. Inserted once, never updated; deleted because a success was settled, or with a dead letter.
CREATE TABLE tickr_messages (
    id              uuid        PRIMARY KEY,
    created_at      timestamptz NOT NULL,
    scheduled_at    timestamptz,
    max_attempts    integer,
    priority        smallint    NOT NULL, -- 1 high, 2 normal, 3 low
    event_type      text        COLLATE "C" NOT NULL,
    payload         bytea       NOT NULL,
    headers         text,                 -- a JSON object of strings
    content_type    text,
    idempotency_key text        COLLATE "C",
    ordering_key    text        COLLATE "C",
    tenant          text        COLLATE "C",
    organisation    text        COLLATE "C",
    correlation_id  text
) WITH (
    -- The index on id is in the order of time and only grows at its end; dead rows appear where purge works. As many as messages: at
    -- the default limit a vacuum comes to its end minutes too late.
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_limit = 2000,
    autovacuum_vacuum_insert_scale_factor = 0.1
);

-- What can be claimed. lane: 0 returned, 1 high, 2 normal, 3 low, 4 suspect. Rows are inserted and deleted, NEVER updated:
-- a claim deletes by ctid. The identity is never used twice, so that what returns comes after what is there.
-- The table is small and turns over quickly: vacuum by a number of dead rows, not by a share of the living; never truncate,
-- because that takes an exclusive lock.
CREATE TABLE tickr_ready (
    seq        bigint   GENERATED ALWAYS AS IDENTITY,
    attempt    integer  NOT NULL,
    crashes    smallint NOT NULL,
    lane       smallint NOT NULL,
    id         uuid     NOT NULL,
    event_type text     COLLATE "C" NOT NULL,
    PRIMARY KEY (event_type, lane, seq)
) WITH (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

CREATE UNIQUE INDEX tickr_ready_id ON tickr_ready (id);

-- What is due later, for the first time or again. Rows are inserted and deleted, NEVER updated.
CREATE TABLE tickr_scheduled (
    process_at timestamptz NOT NULL,
    id         uuid        PRIMARY KEY,
    attempt    integer     NOT NULL,
    crashes    smallint    NOT NULL,
    lane       smallint    NOT NULL,
    event_type text        COLLATE "C" NOT NULL
) WITH (
    autovacuum_vacuum_scale_factor = 0.01,
    autovacuum_vacuum_threshold = 10000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

CREATE INDEX tickr_scheduled_process_at ON tickr_scheduled (process_at);
CREATE INDEX tickr_scheduled_event_type ON tickr_scheduled (event_type);

-- One row a worker incarnation, updated by every heartbeat: no index on what it updates, and room on the page (HOT).
CREATE TABLE tickr_workers (
    id          uuid        PRIMARY KEY,
    name        text        NOT NULL,
    event_types text[]      NOT NULL,
    idle        boolean     NOT NULL,
    started_at  timestamptz NOT NULL,
    expires_at  timestamptz NOT NULL,
    lease       interval    NOT NULL, -- how long a whole lease is
    lost        boolean     NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500);

-- How far apart the ids of a claim are, in base 4: the digits of the milliseconds between them. A function, because what writes claims
-- has it planned once; the expression of a generated column would be read anew by every statement.
CREATE FUNCTION tickr_span(id_min uuid, id_max uuid) RETURNS smallint LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT ((length(ltrim((
        ('x' || translate(left(id_max::text, 13), '-', ''))::bit(48)::bigint
        - ('x' || translate(left(id_min::text, 13), '-', ''))::bit(48)::bigint
    )::bit(48)::text, '0')) + 1) / 2)::smallint
$$;

-- Journal: one row a claim. Append-only.
CREATE TABLE tickr_claims (
    token       uuid        PRIMARY KEY,
    worker      uuid        NOT NULL,    -- the incarnation
    at          timestamptz NOT NULL,
    id_min      uuid        NOT NULL,
    id_max      uuid        NOT NULL,
    span        smallint    NOT NULL,    -- tickr_span(id_min, id_max)
    solo        boolean     NOT NULL,
    worker_name text        NOT NULL,
    attempts    integer[]   NOT NULL,    -- the attempt that began
    crashes     smallint[]  NOT NULL,
    maxes       integer[]   NOT NULL,    -- the effective maximum of attempts
    event_types text[]      NOT NULL,    -- the distinct event types
    types       smallint[]  NOT NULL,    -- positions in event_types, from 1
    ids         uuid[]      NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- Random bytes do not compress.
ALTER TABLE tickr_claims ALTER ids SET STORAGE EXTERNAL;

-- The claims of a message: among those of a span, id_max is not further behind the message's id than the span is wide. So each of
-- the 25 spans is one short range, however many claims there are; without it all that are newer would have to be looked at.
CREATE INDEX tickr_claims_ids ON tickr_claims (span, id_max, id_min);
CREATE INDEX tickr_claims_at ON tickr_claims (at);

-- The fence: one row an unsettled claim. Every outcome writes it; it is gone when settled | revoked is full.
CREATE TABLE tickr_open_claims (
    token   uuid   PRIMARY KEY CONSTRAINT open_claims_claim REFERENCES tickr_claims (token),
    worker  uuid   NOT NULL CONSTRAINT open_claims_worker REFERENCES tickr_workers (id),
    settled varbit NOT NULL,
    revoked varbit NOT NULL
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_cost_delay = 0,
    vacuum_truncate = off
);

CREATE INDEX tickr_open_claims_worker ON tickr_open_claims (worker);

-- Journal: how members of claims ended. Append-only but for proves_from; the masks of one token are disjoint, and full when it is closed.
CREATE TABLE tickr_settlements (
    token       uuid        NOT NULL,
    at          timestamptz NOT NULL,
    proves_from integer,             -- of a success: bodies of members before this one were purged; NULL: nothing is left to prove
    outcome     text        NOT NULL,
    mask        varbit      NOT NULL
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- Where a publication covers all tables (logical replication, change data capture), PostgreSQL refuses to update or delete rows of a
-- table without an identity. This one has no key that would be worth an index: its rows identify themselves.
ALTER TABLE tickr_settlements REPLICA IDENTITY FULL;

CREATE INDEX tickr_settlements_token ON tickr_settlements (token);
-- What purge has to do, in order. A success from before a purge proves nothing any more: its id may have been enqueued again.
CREATE INDEX tickr_settlements_proofs ON tickr_settlements (at) WHERE proves_from IS NOT NULL;

-- Journal: what is rare (failed, retried, dead, killed, ...), by message. attempt is the one that ended.
CREATE TABLE tickr_transitions (
    n       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id      uuid        NOT NULL,
    token   uuid,
    at      timestamptz NOT NULL,
    attempt integer     NOT NULL,
    outcome text        NOT NULL,
    error   text
) WITH (autovacuum_vacuum_insert_scale_factor = 0.1);

-- With n, so that the newest of a message needs no sort.
CREATE INDEX tickr_transitions_id ON tickr_transitions (id, n);

-- Dead letters.
CREATE TABLE tickr_dead (
    id         uuid        PRIMARY KEY,
    died_at    timestamptz NOT NULL,
    attempt    integer     NOT NULL,
    event_type text        COLLATE "C" NOT NULL,
    reason     text        NOT NULL
);

CREATE INDEX tickr_dead_event_type ON tickr_dead (event_type, id);
CREATE INDEX tickr_dead_died_at ON tickr_dead (died_at);

-- Idempotency keys, with a retention of their own.
CREATE TABLE tickr_dedupe (
    event_type text        COLLATE "C" NOT NULL,
    key        text        COLLATE "C" NOT NULL,
    id         uuid        NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (event_type, key)
) WITH (autovacuum_vacuum_scale_factor = 0.02);

CREATE INDEX tickr_dedupe_expires_at ON tickr_dedupe (expires_at, event_type, key);

-- What is not claimed. The empty event type stands for all of them. A pause is over once its end has come, without a write; an
-- infinite end is one that somebody has to bring about.
CREATE TABLE tickr_paused (
    event_type text        COLLATE "C" PRIMARY KEY,
    paused_at  timestamptz NOT NULL,
    until      timestamptz NOT NULL,
    actor      text,
    reason     text
);

CREATE TABLE tickr_locks (
    name       text        COLLATE "C" PRIMARY KEY,
    holder     uuid        NOT NULL,
    term       bigint      NOT NULL,
    expires_at timestamptz NOT NULL,
    ttl        interval    NOT NULL   -- how long a whole lease is
) WITH (fillfactor = 50);

INSERT INTO tickr_migrations (version, name, readable_from)
VALUES (1, 'initial', 1);
