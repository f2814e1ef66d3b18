-- Planned as the planner likes. READ COMMITTED, because the statements are written for it, whatever the database's default.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL row_security = off;   -- rows that a policy hides are an error: a body that is hidden looks as if it were lost
