-- Stops claims of a type (?1; empty: of everything): ?2 since when, ?3 the end (NULL: none), ?4 who, ?5 why. What is stored is kept
-- if ?6 and it ends later. Primary key.
INSERT INTO tickr_paused AS p (event_type, paused_at, until, actor, reason)
VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (event_type) DO UPDATE
SET paused_at = excluded.paused_at, until = excluded.until, actor = excluded.actor, reason = excluded.reason
WHERE NOT ?6
   OR (p.until IS NOT NULL AND (excluded.until IS NULL OR p.until < excluded.until))
