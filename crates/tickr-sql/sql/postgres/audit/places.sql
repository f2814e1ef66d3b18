-- Every thin row: the message and its place (0 ready, 1 scheduled, 2 dead). Reads everything.
SELECT id, 0::smallint AS place FROM tickr_ready
UNION ALL
SELECT id, 1::smallint FROM tickr_scheduled
UNION ALL
SELECT id, 2::smallint FROM tickr_dead
