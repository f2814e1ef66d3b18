-- Planned as the planner likes. READ COMMITTED, because the statements are written for it, whatever the database's default.
BEGIN ISOLATION LEVEL READ COMMITTED;
