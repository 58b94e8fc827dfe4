-- What an operator does with registers that run.

-- name: verify_register
-- Compare a register's totals and balances with its movements.
SELECT check_type, dim_hash, period, expected, actual, status FROM {schema}.register_verify(%(register)s);

-- name: read_dimensions
-- The kind of a register, and the names of its dimensions in order.
SELECT
    i.info ->> 'kind',
    ARRAY(SELECT d.value ->> 'name' FROM jsonb_array_elements(i.info -> 'dimensions') WITH ORDINALITY AS d ORDER BY d.ordinality)
FROM {schema}.register_info(%(register)s) AS i (info);

-- name: describe_cells
-- Which cells these keys are, from any row that has one of them: a movement, or the derived row that no movement explains.
SELECT k.dim_hash, coalesce(
    (SELECT row_to_json(c) FROM (SELECT {dimensions} FROM {journal} AS j WHERE j.dim_hash = k.dim_hash ORDER BY j.dim_hash LIMIT 1) AS c),
    (SELECT row_to_json(c) FROM (SELECT {dimensions} FROM {totals} AS t WHERE t.dim_hash = k.dim_hash ORDER BY t.dim_hash LIMIT 1) AS c),
    (SELECT row_to_json(c) FROM (SELECT {dimensions} FROM {balances} AS b WHERE b.dim_hash = k.dim_hash ORDER BY b.dim_hash LIMIT 1) AS c)
)
FROM unnest(%(dim_hashes)s::bigint[]) AS k (dim_hash);

-- name: rebuild_totals
-- Make a register's totals what its movements say.
SELECT {schema}.register_rebuild_totals(%(register)s);

-- name: rebuild_cache
-- Make a register's balances, or that of one cell, what its movements say.
SELECT {schema}.register_rebuild_cache(%(register)s, %(dim_hash)s);

-- name: register_stats
-- Sizes of a register.
SELECT {schema}.register_stats(%(register)s);

-- name: list_partitions
-- The partitions of a register's movements, those that were detached included.
SELECT partition_name, from_date, before_date, state, movements, bytes FROM {schema}.register_partitions(%(register)s);

-- name: create_partitions
-- Make partitions ahead of time.
SELECT {schema}.register_create_partitions(%(register)s, %(ahead)s::interval);

-- name: detach_oldest_partition
-- Detach one partition, the oldest of those that are old enough.
SELECT partition_name, movements FROM {schema}.register_detach_partitions(%(register)s, %(older_than)s::interval, 1);
