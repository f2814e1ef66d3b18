-- A page of the journal by rowid, so that rows which must stay never hide those behind them.
SELECT t.n, t.at, EXISTS (SELECT 1 FROM tickr_messages m WHERE m.id = t.id) AS has_body
FROM tickr_transitions t
WHERE t.n > ?1
ORDER BY t.n
LIMIT ?2
