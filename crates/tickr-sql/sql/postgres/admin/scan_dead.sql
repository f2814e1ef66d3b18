-- As scan_all, of dead messages. Primary key of dead.
SELECT id
FROM tickr_dead
WHERE id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
ORDER BY id DESC
OFFSET $2
LIMIT 1
