-- One snapshot for several statements, which only read, by indexes. Sorts are few rows here, and may stay: an index on the order
-- would be read from its beginning.
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;
SET LOCAL row_security = off;   -- rows that a policy hides are an error: a body that is hidden looks as if it were lost
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;   -- workers would read on behind a LIMIT
SET LOCAL plan_cache_mode = force_generic_plan;   -- made once: on many partitions planning takes longer than what is planned
