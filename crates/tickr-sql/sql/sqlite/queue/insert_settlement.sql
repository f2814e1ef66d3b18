-- Writes to the journal how members of a claim ended.
INSERT INTO tickr_settlements (token, outcome, mask, at)
VALUES (?1, ?2, ?3, ?4)
