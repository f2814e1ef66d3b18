-- The last message that a page may scan, if there are so many: a page never reads further. $1 before which id (absent: from the newest),
-- $2 how many messages to pass over. Primary key.
SELECT id
FROM tickr_messages
WHERE id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
ORDER BY id DESC
OFFSET $2
LIMIT 1
