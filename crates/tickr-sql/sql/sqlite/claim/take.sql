-- Takes the oldest ?3 rows of a lane. Primary key (event_type, lane, seq): the sub-select reads the first ?3 entries, the
-- DELETE the same ones again. Exact, because only one transaction writes at a time: no floor and no row locks.
-- RETURNING promises no order.
DELETE FROM tickr_ready
WHERE event_type = ?1
  AND lane = ?2
  AND seq <= (
      SELECT max(seq)
      FROM (
          SELECT seq
          FROM tickr_ready
          WHERE event_type = ?1
            AND lane = ?2
          ORDER BY seq
          LIMIT ?3
      )
  )
RETURNING seq, id, attempt, crashes
