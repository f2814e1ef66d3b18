-- tickr for PostgreSQL, schema version 1, partitioned layout: what grows is partitioned by time, so that what was purged is given
-- back to the disk by dropping a table. Run after 0001_initial.sql, while everything is empty.
--
-- Ids of messages and tokens of claims are UUIDv7 and begin with their time: a range of time is a range of ids. Settlements go with
-- the claim of their token. What falls into no partition (a clock that is years off) goes to the default one.

ALTER TABLE tickr_open_claims DROP CONSTRAINT open_claims_claim;

CREATE TABLE tickr_new_messages (LIKE tickr_messages INCLUDING ALL) PARTITION BY RANGE (id);
DROP TABLE tickr_messages;
ALTER TABLE tickr_new_messages RENAME TO tickr_messages;
CREATE TABLE tickr_messages_default PARTITION OF tickr_messages DEFAULT;

CREATE TABLE tickr_new_claims (LIKE tickr_claims INCLUDING ALL) PARTITION BY RANGE (token);
DROP TABLE tickr_claims;
ALTER TABLE tickr_new_claims RENAME TO tickr_claims;
CREATE TABLE tickr_claims_default PARTITION OF tickr_claims DEFAULT;

CREATE TABLE tickr_new_settlements (LIKE tickr_settlements INCLUDING ALL) PARTITION BY RANGE (token);
DROP TABLE tickr_settlements;
ALTER TABLE tickr_new_settlements RENAME TO tickr_settlements;
CREATE TABLE tickr_settlements_default PARTITION OF tickr_settlements DEFAULT;
-- No partition inherits it.
ALTER TABLE tickr_settlements REPLICA IDENTITY FULL;
ALTER TABLE tickr_settlements_default REPLICA IDENTITY FULL;

-- A unique index of a partitioned table has its key in it.
CREATE TABLE tickr_new_transitions (
    LIKE tickr_transitions INCLUDING ALL EXCLUDING INDEXES,
    PRIMARY KEY (n, at)
) PARTITION BY RANGE (at);
DROP TABLE tickr_transitions;
ALTER TABLE tickr_new_transitions RENAME TO tickr_transitions;
ALTER SEQUENCE tickr_new_transitions_n_seq RENAME TO tickr_transitions_n_seq;
CREATE INDEX tickr_transitions_id ON tickr_transitions (id, n);
CREATE TABLE tickr_transitions_default PARTITION OF tickr_transitions DEFAULT;

ALTER TABLE tickr_open_claims ADD CONSTRAINT open_claims_claim FOREIGN KEY (token) REFERENCES tickr_claims (token);
