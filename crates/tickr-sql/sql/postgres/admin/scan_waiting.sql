-- As scan_all, of messages that wait: a merge of the ids of ready and scheduled.
SELECT x.id
FROM (SELECT id FROM tickr_ready UNION ALL SELECT id FROM tickr_scheduled) x
WHERE x.id < coalesce($1, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)
ORDER BY x.id DESC
OFFSET $2
LIMIT 1
