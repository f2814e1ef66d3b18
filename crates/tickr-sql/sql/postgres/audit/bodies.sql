-- Every body. Reads everything.
SELECT id
FROM tickr_messages
