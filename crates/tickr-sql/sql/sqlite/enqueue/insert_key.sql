-- The first of a pair (event type, idempotency key) wins; a later one writes 0 rows.
INSERT INTO tickr_dedupe (event_type, key, id, expires_at)
VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (event_type, key) DO NOTHING
