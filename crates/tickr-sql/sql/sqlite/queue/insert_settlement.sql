-- The journal of how members of a claim ended: one row an outcome, however many members.
INSERT INTO tickr_settlements (token, outcome, mask, at)
VALUES (?1, ?2, ?3, ?4)
