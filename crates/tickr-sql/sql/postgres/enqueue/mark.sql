-- Sent right before a statement that is to be a transaction of its own. Outside a transaction the setting is gone before the statement
-- begins; inside one that somebody left open the statement sees it, and stores nothing.
SELECT set_config('tickr.inside', 'yes', true)
