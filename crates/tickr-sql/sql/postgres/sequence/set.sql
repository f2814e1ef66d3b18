-- Sets a sequence. $1 its name, $2 the number after which it goes on.
SELECT setval($1::text::regclass, $2::bigint)
