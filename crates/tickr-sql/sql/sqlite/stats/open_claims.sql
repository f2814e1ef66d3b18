-- Every open claim with what the journal says of its members. open_claims is small.
SELECT
    c.token, c.worker_name, c.solo, c.at, c.ids, c.attempts, c.crashes, c.maxes, c.event_types, c.types,
    o.settled, o.revoked
FROM tickr_open_claims o
JOIN tickr_claims c ON c.token = o.token
ORDER BY o.token
