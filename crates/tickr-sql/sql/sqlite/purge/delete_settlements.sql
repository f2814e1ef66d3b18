-- Deletes the settlements of one claim. Index on token.
DELETE FROM tickr_settlements
WHERE token = ?1
