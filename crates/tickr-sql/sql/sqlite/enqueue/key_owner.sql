-- The message that has an idempotency key. Primary key (event_type, key).
SELECT id
FROM tickr_dedupe
WHERE event_type = ?1
  AND key = ?2
