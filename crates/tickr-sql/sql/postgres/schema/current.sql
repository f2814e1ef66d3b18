-- The schema in which a table without one would be made; NULL where the search path names none that exists.
SELECT current_schema()::text
