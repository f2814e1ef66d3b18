-- Functions from which `fill.sql` makes rows, and the cases their arguments.
SELECT :finished + :scheduled + :ready + :open * :members + 1 AS last_number
\gset
CREATE SCHEMA sample;
-- The last message was enqueued a minute ago, the first of those with a body two weeks ago.
SELECT format(
    'CREATE FUNCTION sample.ms(i bigint) RETURNS bigint IMMUTABLE LANGUAGE sql AS ''SELECT %s + (i - %s) * %s''',
    (extract(epoch FROM now()) * 1000)::bigint - 60000, :last_number, 14 * 86400000::bigint / :last_number
)
\gexec
CREATE FUNCTION sample.at(i bigint) RETURNS timestamptz IMMUTABLE LANGUAGE sql
AS 'SELECT to_timestamp(sample.ms(i) / 1000.0)';
-- As a UUID version 7: in the order of time.
CREATE FUNCTION sample.id(i bigint) RETURNS uuid IMMUTABLE LANGUAGE sql
AS $$SELECT (lpad(to_hex(sample.ms(i)), 12, '0') || '7' || left(md5(i::text), 3) || '8' || right(md5(i::text), 15))::uuid$$;
CREATE FUNCTION sample.ids(first bigint, last bigint) RETURNS uuid[] IMMUTABLE LANGUAGE sql
AS 'SELECT array_agg(sample.id(i) ORDER BY i) FROM generate_series(first, last) i';
CREATE FUNCTION sample.type(n bigint) RETURNS text IMMUTABLE LANGUAGE sql
AS $$SELECT 'orders.event_' || lpad((n % 50)::text, 2, '0')$$;
-- Types, every second of which has no messages; their lanes, four each; arrays of numbers.
CREATE FUNCTION sample.types(n bigint) RETURNS text[] IMMUTABLE LANGUAGE sql
AS $$SELECT array_agg(CASE WHEN i % 2 = 0 THEN sample.type(i) ELSE 'orders.none_' || i END ORDER BY i) FROM generate_series(0, n - 1) i$$;
CREATE FUNCTION sample.lanes(n bigint) RETURNS smallint[] IMMUTABLE LANGUAGE sql
AS 'SELECT array_agg((i % 4)::smallint ORDER BY i) FROM generate_series(0, 4 * n - 1) i';
CREATE FUNCTION sample.steps(first integer, last integer, step integer) RETURNS integer[] IMMUTABLE LANGUAGE sql
AS 'SELECT array_agg(i ORDER BY i) FROM generate_series(first, last, step) i';
CREATE FUNCTION sample.texts(prefix text, first bigint, last bigint) RETURNS text[] IMMUTABLE LANGUAGE sql
AS 'SELECT array_agg(prefix || i ORDER BY i) FROM generate_series(first, last) i';
CREATE FUNCTION sample.numbers(first integer, last integer) RETURNS integer[] IMMUTABLE LANGUAGE sql
AS 'SELECT array_agg(i ORDER BY i) FROM generate_series(first, last) i';
-- Keys of the type 7 that have an owner, and dead messages.
CREATE FUNCTION sample.taken(first bigint, last bigint) RETURNS text[] STABLE LANGUAGE sql
AS $$SELECT ARRAY(SELECT key FROM public.tickr_dedupe WHERE event_type = sample.type(7) ORDER BY key OFFSET first - 1 LIMIT last - first + 1)$$;
CREATE FUNCTION sample.dead(n bigint) RETURNS uuid[] STABLE LANGUAGE sql
AS 'SELECT ARRAY(SELECT id FROM public.tickr_dead ORDER BY id LIMIT n)';
-- Tokens and workers, by a word and a number.
CREATE FUNCTION sample.uuid(word text, n bigint) RETURNS uuid IMMUTABLE LANGUAGE sql
AS $$SELECT md5(word || n)::uuid$$;
CREATE FUNCTION sample.uuids(word text, first bigint, last bigint) RETURNS uuid[] IMMUTABLE LANGUAGE sql
AS 'SELECT array_agg(sample.uuid(word, n) ORDER BY n) FROM generate_series(first, last) n';
