DELETE FROM tickr_settlements
WHERE token = ?1
