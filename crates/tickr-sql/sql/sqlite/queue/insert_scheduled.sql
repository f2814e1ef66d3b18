-- A message that is due later.
-- One that is there already, by a repair by hand, must not keep others.
INSERT INTO tickr_scheduled (id, process_at, event_type, lane, attempt, crashes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (id) DO NOTHING
