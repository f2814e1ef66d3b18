-- One migration at a time: the lock is held to the end of the transaction, and needs no session. $1 is a number of the schema.
SELECT pg_advisory_xact_lock($1)
