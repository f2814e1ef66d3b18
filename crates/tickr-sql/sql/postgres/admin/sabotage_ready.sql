-- Breaks an invariant on purpose, so that a test sees the audit report it: removes the ready row of a message.
DELETE FROM tickr_ready
WHERE id = $1
RETURNING id
