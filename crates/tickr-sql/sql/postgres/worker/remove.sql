-- Removes a worker; a foreign key refuses it while it has a claim open. Primary key.
DELETE FROM tickr_workers
WHERE id = $1
