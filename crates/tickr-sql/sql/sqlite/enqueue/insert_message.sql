-- An id that is stored already changes nothing (0 rows). Ids grow with time: the primary key is appended to.
INSERT INTO tickr_messages (
    payload, headers, content_type, idempotency_key, ordering_key, tenant, organisation, correlation_id,
    priority, max_attempts, scheduled_at, created_at, event_type, id
)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)
ON CONFLICT (id) DO NOTHING
