-- Takes back a key that was inserted a moment ago for an id that turned out to be stored already.
DELETE FROM tickr_dedupe
WHERE event_type = ?1
  AND key = ?2
  AND id = ?3
