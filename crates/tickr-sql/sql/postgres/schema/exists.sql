-- Whether there is a table $2 in schema $1, or, without one, in the search path. The catalogue itself is read: a look-up by
-- to_regclass may answer from a cache that does not know yet what another migration did while this one waited for the lock.
SELECT EXISTS (
    SELECT
    FROM pg_class c
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relname = $2::text
      AND n.nspname = ANY (CASE WHEN $1::text IS NULL THEN current_schemas(false) ELSE ARRAY[$1]::name[] END)
)
