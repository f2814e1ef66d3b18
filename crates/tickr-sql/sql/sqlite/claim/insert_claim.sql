-- The journal of a claim: one row, however many members. Appended to table and indexes, because tokens and ids grow with time.
INSERT INTO tickr_claims (
    token, worker, worker_name, solo, at, id_min, id_max, span, ids, attempts, crashes, maxes, event_types, types
)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
