-- Reads the whole queue: an audit looks at everything.
SELECT id
FROM tickr_ready
