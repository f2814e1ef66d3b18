-- A foreign key refuses it while a claim is open.
DELETE FROM tickr_workers
WHERE id = ?1
