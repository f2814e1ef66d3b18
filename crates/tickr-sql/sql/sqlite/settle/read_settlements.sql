-- What the journal says of a token. Index on token.
SELECT outcome, mask, at
FROM tickr_settlements
WHERE token = ?1
ORDER BY n
