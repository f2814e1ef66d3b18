-- Which of these are ready, scheduled or leased. Indexes on id; open_claims is small.
SELECT id FROM tickr_ready WHERE id = ANY ($1)
UNION
SELECT id FROM tickr_scheduled WHERE id = ANY ($1)
UNION
SELECT id FROM tickr_leased WHERE id = ANY ($1)
