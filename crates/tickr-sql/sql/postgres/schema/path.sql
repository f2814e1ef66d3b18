-- The search path that the connection came with, without schemas that do not exist or may not be used, and the encoding of the database.
SELECT current_schemas(false)::text[], pg_catalog.current_setting('server_encoding')
