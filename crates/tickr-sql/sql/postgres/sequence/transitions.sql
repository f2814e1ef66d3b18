-- The sequence of the journal's transitions: its name, the highest number in use, and the next one that it gives out, NULL where the
-- role may not ask. $1 the name of the table. Uses up one number. Primary key of transitions.
WITH highest AS MATERIALIZED (
    SELECT coalesce((SELECT n FROM tickr_transitions ORDER BY n DESC LIMIT 1), 0) AS n
)
SELECT s.name, h.n AS highest, CASE WHEN has_sequence_privilege(s.name, 'UPDATE') THEN nextval(s.name::regclass) END AS next
FROM (SELECT pg_get_serial_sequence($1::text, 'n') AS name) s
CROSS JOIN highest h
