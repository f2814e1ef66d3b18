-- Breaks an invariant on purpose: removes the body of a message.
DELETE FROM tickr_messages
WHERE id = $1
RETURNING id
