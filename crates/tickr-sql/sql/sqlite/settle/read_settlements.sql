-- What the journal says of a token. Index on token.
SELECT outcome, mask, at, n
FROM tickr_settlements
WHERE token = ?1
ORDER BY n
