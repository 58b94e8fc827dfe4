-- What an operator does with registers that run.

-- name: verify_register
-- Compare a register's totals and balances with its movements.
SELECT check_type, dim_hash, period, expected, actual, status FROM {schema}.register_verify(%(register)s);

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
