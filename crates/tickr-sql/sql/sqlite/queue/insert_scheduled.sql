-- A message that is due later.
INSERT INTO tickr_scheduled (id, process_at, event_type, lane, attempt, crashes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
