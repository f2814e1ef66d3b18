-- Reads all that is due later: an audit looks at everything.
SELECT id
FROM tickr_scheduled
