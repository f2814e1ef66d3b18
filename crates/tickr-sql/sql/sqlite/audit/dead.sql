-- Reads every dead letter: an audit looks at everything.
SELECT id
FROM tickr_dead
