-- The partitions of tables $2 in schema $1, or, without one, in the search path.
SELECT c.relname::text
FROM pg_class p
JOIN pg_namespace n ON n.oid = p.relnamespace
JOIN pg_inherits i ON i.inhparent = p.oid
JOIN pg_class c ON c.oid = i.inhrelid
WHERE p.relname = ANY ($2::name[])
  AND n.nspname = ANY (CASE WHEN $1::text IS NULL THEN current_schemas(false) ELSE ARRAY[$1]::name[] END)
