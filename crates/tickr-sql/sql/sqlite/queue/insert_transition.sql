-- A step of the history of one message: only for what is rare.
INSERT INTO tickr_transitions (id, token, outcome, attempt, error, at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
