-- Again with the same id: extends the lease. A condemned worker writes 0 rows.
INSERT INTO tickr_workers (id, name, event_types, idle, started_at, expires_at, lease, lost)
VALUES (?1, ?2, ?3, 0, ?4, ?5, ?6, 0)
ON CONFLICT (id) DO UPDATE
SET name = excluded.name,
    event_types = excluded.event_types,
    expires_at = excluded.expires_at,
    lease = excluded.lease
WHERE lost = 0
