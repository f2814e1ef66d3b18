-- Writes the fence: members that ended. Primary key.
UPDATE tickr_open_claims
SET settled = ?2
WHERE token = ?1
