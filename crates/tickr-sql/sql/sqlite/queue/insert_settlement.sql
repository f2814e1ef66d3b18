INSERT INTO tickr_settlements (token, outcome, mask, at)
VALUES (?1, ?2, ?3, ?4)
