-- A register rebuilt from its topic: the shadow, where it stands, and the exchange.

-- name: begin_rebuild
-- Make the shadow of a register, or find the one of a rebuild that was interrupted.
SELECT {schema}._begin_rebuild(%(register)s, %(consumer_group)s, %(declaration)s::jsonb, %(mapping)s::jsonb);

-- name: discard_rebuild
-- Drop the shadow of a register.
SELECT {schema}._discard_rebuild(%(register)s);

-- name: find_rebuild
-- The rebuild of a register that is under way.
SELECT b.shadow, b.consumer_group, b.declaration, b.begun_at, b.gaps FROM {schema}._rebuilds AS b WHERE b.register = %(register)s;

-- name: read_shadow
-- The declaration of the shadow of a register.
SELECT
    r.name, r.kind, r.dimensions, r.resources, r.totals_period, r.partition_by, r.high_write, r.recorder_type, r.time_zone,
    r.tombstone_unposts, r.period_min, r.period_max, r.high_write_auto, r.subtotals
FROM {schema}._registers AS r INNER JOIN {schema}._rebuilds AS b ON r.name = b.shadow
WHERE b.register = %(register)s;

-- name: read_live_positions
-- How far the live register has been read, and the topics as they were then.
SELECT p.topic, p.partition, p.id, p.next_offset, p.topic_id FROM {schema}._positions AS p
WHERE p.consumer_group = %(consumer_group)s AND p.retired_at IS NULL
ORDER BY p.topic, p.partition;

-- name: count_movements_before
-- How many movements of a register came from before these offsets.
SELECT count(*) FROM {movements} AS m
INNER JOIN unnest(%(position_ids)s::integer[], %(offsets)s::bigint[]) AS g (position_id, low)
    ON m.position_id = g.position_id AND m.event_offset < g.low;

-- name: accept_gaps
-- Remember that a rebuild begins where the logs do.
UPDATE {schema}._rebuilds AS b SET gaps = %(gaps)s::jsonb WHERE b.register = %(register)s;

-- name: read_given_up
-- The events that somebody has given up, as dropped dead letters or by moving a position over them: a rebuild leaves them out as well.
SELECT p.topic, p.partition, g.first_offset, g.next_offset FROM (
    SELECT d.position_id, d.event_offset AS first_offset, d.event_offset + 1 AS next_offset FROM {schema}._dead_letters AS d
    WHERE d.state = 'dropped'
    UNION ALL
    SELECT k.position_id, k.first_offset, k.next_offset FROM {schema}._skipped_offsets AS k
) AS g
INNER JOIN {schema}._positions AS p ON g.position_id = p.id
WHERE p.consumer_group = %(consumer_group)s AND p.retired_at IS NULL;

-- name: insert_rebuild_refusal
-- One event that a rebuild refuses; it becomes a dead letter when the tables are exchanged.
INSERT INTO {schema}._rebuild_refusals AS f (
    register, position_id, event_offset, reason, path, detail, sqlstate, recorder, event_id, event_at, event_key, event_value,
    header_names, header_values, batch_id
)
VALUES (
    %(rebuilt_register)s, %(position_id)s, %(event_offset)s, %(reason)s, %(path)s, %(detail)s, %(sqlstate)s, %(recorder)s, %(event_id)s,
    %(event_at)s, %(event_key)s, %(event_value)s, %(header_names)s, %(header_values)s, %(batch_id)s
)
ON CONFLICT (register, position_id, event_offset) DO NOTHING;

-- name: count_rebuild_refusals
-- How many events a rebuild has refused, by reason.
SELECT f.reason, count(*) FROM {schema}._rebuild_refusals AS f WHERE f.register = %(register)s GROUP BY f.reason ORDER BY f.reason;

-- name: count_new_refusals
-- How many of the events that a rebuild has refused the live register has applied.
SELECT count(*) FROM {schema}._rebuild_refusals AS f
LEFT JOIN {schema}._dead_letters AS d ON f.position_id = d.position_id AND f.event_offset = d.event_offset
WHERE f.register = %(register)s AND (d.id IS NULL OR d.state = 'retried');

-- name: carry_movements
-- Make the movements by SQL in a shadow those of the live register.
SELECT c.by_sql, c.added, c.removed FROM {schema}._carry_movements(%(register)s, %(drop)s) AS c;

-- name: hold_registry_alone
-- Wait for running batches, and let none begin until this transaction ends.
SELECT pg_advisory_xact_lock({schema}._lock_key('registry'));

-- name: hold_writers
-- Let nobody write movements by hand until this transaction ends; readers are not hindered.
LOCK TABLE {movements} IN SHARE ROW EXCLUSIVE MODE;

-- name: limit_lock_waiting
-- Bound the waits for locks of this transaction, in milliseconds.
SELECT set_config('lock_timeout', %(lock_timeout_ms)s::text, true);

-- name: find_snapshots
-- Sessions that see the database as it was; those that wait for an advisory lock are batches, and look again when they have it.
SELECT a.pid, l.virtualtransaction FROM pg_stat_activity AS a
INNER JOIN pg_locks AS l ON a.pid = l.pid AND l.locktype = 'virtualxid' AND l.granted
WHERE
    a.datname = current_database() AND a.usesysid IS NOT NULL AND a.backend_xmin IS NOT NULL AND a.pid <> pg_backend_pid()
    AND NOT EXISTS (SELECT 1 FROM pg_locks AS w WHERE w.pid = a.pid AND NOT w.granted AND w.locktype = 'advisory');

-- name: compare_rebuild
-- The cells in which a register and its shadow differ.
SELECT c.grain, c.period, c.cell, c.live, c.rebuilt FROM {schema}._compare_rebuild(%(register)s) AS c
ORDER BY c.grain, c.period, c.cell;

-- name: exchange_tables
-- Put the shadow of a register in its place.
SELECT {schema}._exchange_tables(%(register)s);
