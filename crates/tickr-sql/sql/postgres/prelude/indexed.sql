-- Planned by indexes, in their order. A plan that was made while the queue was empty is kept, and would scan and sort a million
-- rows; and the penalty cost of a disabled sort would start the just-in-time compiler.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL row_security = off;   -- rows that a policy hides are an error: a body that is hidden looks as if it were lost
SET LOCAL enable_seqscan = off;
SET LOCAL enable_bitmapscan = off;
SET LOCAL enable_sort = off;
SET LOCAL jit = off;
SET LOCAL max_parallel_workers_per_gather = 0;   -- workers would read on behind a LIMIT
SET LOCAL plan_cache_mode = force_generic_plan;   -- made once: on many partitions planning takes longer than what is planned
