-- Every event type that a live worker handles. workers is tiny.
SELECT DISTINCT t.value
FROM tickr_workers w
-- What is no JSON names no type; it must not fail the whole answer.
CROSS JOIN json_each(iif(json_valid(w.event_types), w.event_types, '[]')) t
WHERE w.lost = 0
  AND w.expires_at > ?1
