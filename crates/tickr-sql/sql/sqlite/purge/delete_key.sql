-- Forgets an idempotency key. Primary key (event_type, key).
DELETE FROM tickr_dedupe
WHERE event_type = ?1
  AND key = ?2
