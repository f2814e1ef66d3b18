-- What services need, for a role called app: run by the owner of the tables, in their schema, after every migration.
-- UPDATE stands also where rows are only locked (FOR UPDATE); identity columns need no right of their own. UPDATE on their sequences is
-- for setting one that is behind its rows, after logical replication; SELECT is for noticing one that was set back.
GRANT SELECT ON tickr_migrations, tickr_layout, tickr_leased, tickr_message_status TO app;
GRANT EXECUTE ON FUNCTION tickr_span(uuid, uuid) TO app;
GRANT SELECT, INSERT, DELETE ON tickr_messages, tickr_transitions TO app;
GRANT SELECT, INSERT, UPDATE ON tickr_locks TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON tickr_dedupe TO app;
GRANT SELECT, INSERT, UPDATE, DELETE
    ON tickr_ready, tickr_scheduled, tickr_workers, tickr_claims, tickr_open_claims, tickr_settlements, tickr_dead, tickr_dedupe,
       tickr_paused TO app;
GRANT UPDATE ON SEQUENCE tickr_ready_seq_seq, tickr_transitions_n_seq TO app;
GRANT SELECT ON SEQUENCE tickr_ready_seq_seq TO app;
