-- How many rows fell into no partition; at most $1 are counted a table. Only in the partitioned layout.
SELECT
    (SELECT count(*) FROM (SELECT FROM tickr_messages_default LIMIT $1) x)
    + (SELECT count(*) FROM (SELECT FROM tickr_claims_default LIMIT $1) x)
    + (SELECT count(*) FROM (SELECT FROM tickr_settlements_default LIMIT $1) x)
    + (SELECT count(*) FROM (SELECT FROM tickr_transitions_default LIMIT $1) x)
