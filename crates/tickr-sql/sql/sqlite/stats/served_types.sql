-- Every event type that a live worker handles. workers is tiny.
SELECT DISTINCT t.value
FROM tickr_workers w
CROSS JOIN json_each(w.event_types) t
WHERE w.lost = 0
  AND w.expires_at > ?1
