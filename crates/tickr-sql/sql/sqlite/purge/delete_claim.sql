-- A foreign key refuses it while the claim is open.
DELETE FROM tickr_claims
WHERE token = ?1
