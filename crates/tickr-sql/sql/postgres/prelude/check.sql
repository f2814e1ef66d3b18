-- The transaction began with this message: a connection of the application's pool may be inside one that somebody left open, which
-- BEGIN only warns of, and which our COMMIT would commit. A division by zero ends it. The times are equal only in the message that
-- began the transaction: the next one is received later.
-- Whatever the default of the role or the database, what is committed is on the disk, and texts are those of the driver.
SELECT
    1 / (transaction_timestamp() = statement_timestamp())::integer,
    CASE WHEN current_setting('synchronous_commit') = 'off' THEN set_config('synchronous_commit', 'on', true) END,
    CASE WHEN current_setting('client_encoding') <> 'UTF8' THEN set_config('client_encoding', 'UTF8', true) END
