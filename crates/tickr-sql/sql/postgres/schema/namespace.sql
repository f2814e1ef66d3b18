-- Whether the configured schema exists.
SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)
