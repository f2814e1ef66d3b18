-- Claims that may have a member between ?1 and ?2. Index on (id_max, id_min).
SELECT token, worker_name, solo, at, ids, attempts, crashes, maxes, event_types, types
FROM tickr_claims
WHERE id_max >= ?1
  AND id_min <= ?2
