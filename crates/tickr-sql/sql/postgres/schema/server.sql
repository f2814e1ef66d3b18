-- Which server answers, and which database: when it was started, and the number of the database. Another primary, a server that was
-- restored, and a database that was made again answer otherwise.
SELECT pg_postmaster_start_time(), (SELECT oid FROM pg_database WHERE datname = current_database())
