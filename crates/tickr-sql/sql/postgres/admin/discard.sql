-- Deletes dead letters with their bodies. Primary keys.
WITH gone AS MATERIALIZED (
    DELETE FROM tickr_dead
    WHERE id = ANY ($1)
    RETURNING id
),
body AS (
    DELETE FROM tickr_messages
    WHERE id = ANY (ARRAY(SELECT id FROM gone))
)
SELECT id
FROM gone
