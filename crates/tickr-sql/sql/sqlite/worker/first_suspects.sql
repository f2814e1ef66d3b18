-- The most crashes among the first suspects of each of the worker's types that is not paused at ?2; NULL if none waits.
-- One probe of the primary key of ready per type. CROSS JOIN fixes the order of the loops.
SELECT max((
    SELECT r.crashes
    FROM tickr_ready r
    WHERE r.event_type = t.value
      AND r.lane = 4
    ORDER BY r.seq
    LIMIT 1
))
FROM tickr_workers w
CROSS JOIN json_each(w.event_types) t
WHERE w.id = ?1
  AND NOT EXISTS (
      SELECT 1
      FROM tickr_paused p
      WHERE p.event_type IN ('', t.value)
        AND (p.until IS NULL OR p.until > ?2)
  )
