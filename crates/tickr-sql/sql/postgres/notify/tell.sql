-- Tells listeners of other processes that messages of types are ready. $1 channel, $2 types.
SELECT pg_notify($1, t.event_type)
FROM unnest($2::text[]) t (event_type)
