-- The newest migration. Primary key.
SELECT version, readable_from
FROM tickr_migrations
ORDER BY version DESC
LIMIT 1
