-- One snapshot for several statements that read everything, however long it takes.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL statement_timeout = 0;
SET LOCAL jit = off;
