-- An open claim whose worker has no row, after rows were deleted without foreign keys, would never be taken back: its worker gets a row, as
-- a condemned one. Primary key of workers; reads open_claims, which is small.
INSERT INTO tickr_workers (id, name, event_types, idle, started_at, expires_at, lease, lost)
SELECT DISTINCT worker, '?', '[]', 0, ?1, ?1, 0, 1
FROM tickr_open_claims
WHERE worker NOT IN (SELECT id FROM tickr_workers)
