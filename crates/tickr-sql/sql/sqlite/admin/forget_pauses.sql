-- Forgets pauses that were over by ?1. paused is tiny.
DELETE FROM tickr_paused
WHERE until <= ?1
