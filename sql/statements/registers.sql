-- Declarations.

-- name: read_registry_version
-- The version of the declarations; read after a lock, in a statement with a snapshot of its own.
SELECT version FROM {schema}._registry_version;

-- name: limit_idling
-- Let others go on when this process stands still in the middle of its transaction: its session ends, in milliseconds.
SELECT set_config('idle_in_transaction_session_timeout', %(idle_timeout_ms)s::text, true);

-- name: list_registers
-- Every register's declaration.
SELECT
    name, kind, dimensions, resources, totals_period, partition_by, high_write, recorder_type, time_zone, tombstone_unposts,
    period_min, period_max, high_write_auto, subtotals
FROM {schema}._registers AS r
WHERE r.name NOT IN (SELECT b.shadow FROM {schema}._rebuilds AS b)
ORDER BY r.name;

-- name: list_register_names
-- The names of all registers, as everybody who may read may ask for them.
SELECT name FROM {schema}.register_list() ORDER BY name;

-- name: create_register
-- Declare a register.
SELECT {schema}.register_create(
    %(name)s, %(dimensions)s::jsonb, %(resources)s::jsonb, %(kind)s, %(totals_period)s, %(partition_by)s, %(high_write)s,
    %(recorder_type)s, %(time_zone)s, %(tombstone_unposts)s, %(period_min)s, %(period_max)s, %(high_write_auto)s,
    %(subtotals)s::jsonb
);

-- name: alter_register
-- Add columns to a register, and change what it accepts.
SELECT {schema}.register_alter(
    %(name)s, %(dimensions)s::jsonb, %(resources)s::jsonb, %(high_write)s, %(tombstone_unposts)s, %(period_min)s::date, %(period_max)s::date,
    %(high_write_auto)s, %(subtotals)s::jsonb
);
