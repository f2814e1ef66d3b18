-- A claim as the journal has it. Unique index on token.
SELECT token, worker_name, solo, at, ids, attempts, crashes, maxes, event_types, types
FROM tickr_claims
WHERE token = ?1
