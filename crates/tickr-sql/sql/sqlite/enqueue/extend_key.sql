-- Keeps the key of message ?1 until ?2 at least. Primary keys of messages and dedupe.
UPDATE tickr_dedupe
SET expires_at = ?2
WHERE (event_type, key) = (SELECT event_type, idempotency_key FROM tickr_messages WHERE id = ?1)
  AND id = ?1
  AND expires_at < ?2
