INSERT INTO tickr_ready (event_type, lane, seq, id, attempt, crashes)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
