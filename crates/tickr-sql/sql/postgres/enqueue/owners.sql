-- Whom refused keys belong to; sent only when something was refused, as a statement of its own, because it needs a new snapshot.
-- Primary keys of dedupe and messages.
-- Subqueries, not joins, which may be planned as scans of everything.
SELECT
    (SELECT d.id FROM tickr_dedupe d WHERE d.event_type = u.event_type AND d.key = u.key) AS id,
    (SELECT true FROM tickr_messages m WHERE m.id = u.id) IS NOT NULL AS stored
FROM unnest($1::text[], $2::text[], $3::uuid[]) WITH ORDINALITY u (event_type, key, id, k)
ORDER BY u.k
