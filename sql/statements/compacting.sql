-- The compactor: pending deltas, and what else grows.

-- name: list_delta_registers
-- Registers that have a table of pending deltas.
SELECT r.name FROM {schema}._registers AS r
WHERE EXISTS (
    SELECT 1 FROM pg_class AS c
    WHERE c.relnamespace = %(schema)s::regnamespace AND c.relname = r.name || '_balance_cache_delta' AND c.relkind = 'r'
)
ORDER BY r.name;

-- name: merge_slice
-- Fold a slice of a register's pending deltas.
SELECT m.merged, m.last_key, m.problem
FROM {schema}._merge_slice(%(register)s, %(min_age_ms)s * interval '1 ms', %(most)s, %(first_key)s::bigint) AS m;

-- name: vacuum_deltas
-- Make room where deltas were folded; a table that another session is vacuuming is left out.
VACUUM (SKIP_LOCKED, TRUNCATE FALSE) {deltas};

-- name: pending_deltas
-- How many deltas of each register are pending, and the age of the oldest in seconds.
SELECT
    p.register, p.high_write, p.deltas,
    greatest(0, extract(EPOCH FROM clock_timestamp() - p.oldest_at))::double precision AS age_s
FROM {schema}._pending_deltas() AS p;

-- name: waiting_for_cells
-- How many sessions wait for cells of each register that decides about high-write by itself.
SELECT w.register, w.sessions FROM {schema}._waiting_for_cells() AS w;

-- name: switch_to_high_write
-- Turn high-write on for such a register; says whether it was off.
SELECT {schema}._switch_to_high_write(%(register)s);

-- name: create_partitions_ahead
-- Make the partitions of a register that the coming days need.
SELECT {schema}._create_partitions_ahead(%(register)s, %(days)s);

-- name: roll_up_batches
-- Add up batches that are older than so many days.
SELECT {schema}._roll_up_batches(%(days)s * interval '1 day', %(most)s);

-- name: forget_dead_letters
-- Remove dead letters that were settled more than so many days ago.
SELECT {schema}._forget_dead_letters(%(days)s * interval '1 day', %(relayed_only)s, %(most)s);

-- name: lock_unrelayed
-- Dead letters that are in no topic yet, oldest first; those that another session relays are left out.
SELECT
    d.id, d.reason, d.path, d.detail, d.sqlstate, d.register, d.recorder, d.event_id, d.batch_id, p.consumer_group, p.topic,
    p.partition, d.event_offset, d.event_at, d.event_key, d.event_value, d.header_names, d.header_values
FROM {schema}._dead_letters AS d
LEFT JOIN {schema}._positions AS p ON d.position_id = p.id
WHERE d.relayed_at IS NULL
ORDER BY d.id
LIMIT %(most)s
FOR UPDATE OF d SKIP LOCKED;

-- name: mark_relayed
-- Remember that these dead letters are in the topic.
UPDATE {schema}._dead_letters SET relayed_at = now() WHERE id = ANY(%(ids)s::bigint[]);
