INSERT INTO tickr_transitions (id, token, outcome, attempt, error, at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6)
