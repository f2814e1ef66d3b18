-- The first schema that has the table $1: of the search path as it is now, then of the path $2.
SELECT p.schema
FROM pg_catalog.unnest(current_schemas(false)::text[] || $2::text[]) WITH ORDINALITY p (schema, n)
WHERE EXISTS (
    SELECT
    FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace s ON s.oid = c.relnamespace
    WHERE s.nspname = p.schema
      AND c.relname = $1::text
)
ORDER BY p.n
LIMIT 1
