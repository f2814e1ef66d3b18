-- Every worker, oldest first. workers is tiny; the count has the index on worker.
SELECT
    w.id, w.name, w.event_types, w.idle, w.started_at, w.expires_at, w.lost,
    (SELECT count(*) FROM tickr_open_claims o WHERE o.worker = w.id) AS open_claims
FROM tickr_workers w
ORDER BY w.started_at, w.id
