-- The fence. Its foreign keys say that claim and worker exist (I3).
INSERT INTO tickr_open_claims (token, worker, members, settled, revoked)
VALUES (?1, ?2, ?3, ?4, ?5)
