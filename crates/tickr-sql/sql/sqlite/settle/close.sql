-- Closes a claim whose bitmaps are full.
DELETE FROM tickr_open_claims
WHERE token = ?1
