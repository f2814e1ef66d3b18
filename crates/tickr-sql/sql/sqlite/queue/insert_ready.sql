-- A message that can be claimed. Appended to its lane, because seq grows.
-- One that is there already, by a repair by hand, must not keep others.
INSERT INTO tickr_ready (event_type, lane, seq, id, attempt, crashes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
ON CONFLICT (id) DO NOTHING
