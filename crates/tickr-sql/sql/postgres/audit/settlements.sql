-- Every settlement, those of one claim together. Reads everything.
SELECT token, outcome, mask, proves_from
FROM tickr_settlements
ORDER BY token
