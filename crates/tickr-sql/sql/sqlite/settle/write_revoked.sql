-- Writes the fence: members that were taken away. Primary key.
UPDATE tickr_open_claims
SET revoked = ?2
WHERE token = ?1
