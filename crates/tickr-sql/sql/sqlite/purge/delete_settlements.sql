-- Deletes the settlements of a claim, by the index on token.
DELETE FROM tickr_settlements
WHERE token = ?1
