UPDATE tickr_open_claims
SET settled = ?2
WHERE token = ?1
