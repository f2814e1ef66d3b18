-- Statements that look nothing up but by a primary key, and are sent once a message: with a plan that is made once, and no more.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL plan_cache_mode = force_generic_plan;
