-- Breaks a row on purpose: headers that are no object of strings, as a hand repair may leave them. Primary key.
UPDATE tickr_messages
SET headers = '{"retries": 3}'
WHERE id = $1
RETURNING id
