-- Whether a message of one of the worker's types waits as a suspect and is not paused at ?2: one look at the primary key of ready a type.
-- CROSS JOIN fixes the order of the loops.
SELECT EXISTS (
    SELECT 1
    FROM tickr_workers w
    CROSS JOIN json_each(w.event_types) t
    CROSS JOIN tickr_ready r
    WHERE w.id = ?1
      AND r.event_type = t.value
      AND r.lane = 4
      AND NOT EXISTS (
          SELECT 1
          FROM tickr_paused p
          WHERE p.event_type IN ('', t.value)
            AND (p.until IS NULL OR p.until > ?2)
      )
)
