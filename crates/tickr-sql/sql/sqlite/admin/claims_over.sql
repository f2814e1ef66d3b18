-- Claims of span ?1 that may have a member between ?2 and ?3; ?4 is where the greatest id of such a claim cannot be behind.
-- Index on (span, id_max, id_min).
SELECT token, worker_name, solo, at, ids, attempts, crashes, maxes, event_types, types
FROM tickr_claims
WHERE span = ?1
  AND id_max BETWEEN ?2 AND ?4
  AND id_min <= ?3
