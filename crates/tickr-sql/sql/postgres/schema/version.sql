-- The newest version, and the oldest library schema version that it admits.
SELECT version, readable_from
FROM tickr_migrations
ORDER BY version DESC
LIMIT 1
