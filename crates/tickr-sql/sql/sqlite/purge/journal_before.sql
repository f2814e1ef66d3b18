-- The journal from its beginning to ?2, where the purge of bodies stands: read until it is too young, or enough was found.
-- A token goes as a whole, when it is closed and none of its settlements is younger than ?1 or still a proof that is needed:
-- what is left of the journal still adds up. Rowid, and the index on token.
SELECT
    s.token,
    s.at,
    NOT EXISTS (SELECT 1 FROM tickr_open_claims o WHERE o.token = s.token)
        AND NOT EXISTS (SELECT 1 FROM tickr_settlements y WHERE y.token = s.token AND (y.at > ?1 OR y.n >= ?2)) AS over
FROM tickr_settlements s
WHERE s.n < ?2
ORDER BY s.n
