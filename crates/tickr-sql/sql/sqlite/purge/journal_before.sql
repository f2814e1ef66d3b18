-- Tokens whose whole journal is as old as ?1: closed, and every settlement old and used (before ?2, where the purge of
-- bodies stands). A token goes as a whole, so that what is left of the journal still adds up.
SELECT DISTINCT s.token
FROM tickr_settlements s
WHERE s.n < ?2
  AND s.at <= ?1
  AND NOT EXISTS (SELECT 1 FROM tickr_open_claims o WHERE o.token = s.token)
  AND NOT EXISTS (SELECT 1 FROM tickr_settlements y WHERE y.token = s.token AND (y.at > ?1 OR y.n >= ?2))
LIMIT ?3
