-- One snapshot for several statements that read everything, however long it takes.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL row_security = off;   -- rows that a policy hides are an error: a body that is hidden looks as if it were lost
SET LOCAL statement_timeout = 0;
SET LOCAL jit = off;
