-- A token that is known already: the claim is a repeat whose answer was lost.
SELECT EXISTS (
    SELECT 1
    FROM tickr_claims
    WHERE token = ?1
)
