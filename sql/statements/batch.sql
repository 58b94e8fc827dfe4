-- The statements of one batch, in the order in which the worker sends them.

-- name: speak_iso
-- Have times come back in the one style that the driver reads, whatever the role or the database was given.
SELECT set_config('DateStyle', 'ISO, YMD', false), set_config('TimeZone', 'UTC', false);

-- name: limit_waiting
-- Bound this transaction's statements and lock waits, in milliseconds; and have times come back in the one style that is read.
SELECT
    set_config('DateStyle', 'ISO, YMD', true), set_config('TimeZone', 'UTC', true),
    set_config('statement_timeout', %(statement_timeout_ms)s::text, true),
    set_config('lock_timeout', %(lock_timeout_ms)s::text, true),
    set_config('idle_in_transaction_session_timeout', %(idle_timeout_ms)s::text, true);

-- name: begin_batch
-- Compare and set: every partition of the batch moves on, if it still stands where this worker left it, under its epoch. Declarations are held.
SELECT b.batch_id, b.registry_version, b.advanced, b.in_a_row
FROM {schema}._begin_batch(
    %(hold_registry)s::boolean, %(position_ids)s::integer[], %(expected)s::bigint[], %(epochs)s::bigint[],
    %(next_offsets)s::bigint[], %(last_event_at)s::timestamptz[], %(attempts)s::integer[]
) AS b;

-- name: lock_recorders
-- The states of the batch's recorders, locked in their order so that two batches never wait for each other in a ring.
SELECT
    r.recorder::text, r.revision, r.event_digests, r.spilled, r.first_period, r.last_period
FROM {recorders} AS r
WHERE r.recorder = ANY(%(recorders)s::{recorder_type}[])
ORDER BY r.recorder
FOR UPDATE OF r;

-- name: find_spilled_events
-- Digests of older events of the recorders whose own row has no room for them: by id, and, where a revision comes again, by content.
SELECT e.recorder::text, e.id_digest, e.content_digest
FROM {recorder_events} AS e
WHERE e.recorder = ANY(%(recorders)s::{recorder_type}[]) AND e.id_digest = ANY(%(id_digests)s::bigint[])
UNION ALL
SELECT e.recorder::text, e.id_digest, e.content_digest
FROM {recorder_events} AS e
WHERE
    e.recorder = ANY(%(repeating_recorders)s::{recorder_type}[])
    AND e.content_digest = ANY(%(content_digests)s::bigint[]);

-- name: defer_fold
-- Let deletions wait for the insertions of this transaction, so that cells are locked in one pass.
SELECT set_config('tallystream.defer_fold', 'on', true);

-- name: fold_now
-- Fold deletions that no insertion has taken along, before the commit would.
SET CONSTRAINTS {schema}.fold_at_commit IMMEDIATE;

-- name: fold_later
-- Let the deletions of the next register wait for its insertions again.
SET CONSTRAINTS {schema}.fold_at_commit DEFERRED;

-- name: see_partitions
-- Have this session see all partitions; one that misses a new one would leave the movements that are in it.
SELECT {schema}._see_partitions(%(register)s);

-- name: delete_movements
-- Remove the movements of recorders that are unposted or reposted, within the periods that they can have.
DELETE FROM {movements} AS m
WHERE
    m.recorder = ANY(%(recorders)s::{recorder_type}[])
    AND m.period BETWEEN %(first_period)s AND %(last_period)s;

-- name: copy_recorders
-- New recorders; one that another transaction made meanwhile makes this fail. An INSERT of arrays takes three times as long.
COPY {recorders} (
    recorder, revision, event_digests, spilled, first_period, last_period, position_id, event_offset, batch_id
) FROM STDIN;

-- name: update_recorders
-- The new states of recorders that this transaction has locked.
UPDATE {recorders} AS r
SET
    revision = n.revision, event_digests = n.event_digests, spilled = n.spilled, first_period = n.first_period,
    last_period = n.last_period, position_id = n.position_id, event_offset = n.event_offset, batch_id = %(batch_id)s
FROM unnest(
    %(recorders)s::{recorder_type}[], %(revisions)s::bigint[], %(event_digests)s::bytea[], %(spilled)s::boolean[],
    %(first_periods)s::timestamptz[], %(last_periods)s::timestamptz[], %(position_ids)s::integer[],
    %(event_offsets)s::bigint[]
) AS n (recorder, revision, event_digests, spilled, first_period, last_period, position_id, event_offset)
WHERE r.recorder = n.recorder;

-- name: spill_events
-- Digests that no longer fit in their recorders' rows.
INSERT INTO {recorder_events} AS e (recorder, id_digest, content_digest)
SELECT n.recorder, n.id_digest, n.content_digest
FROM unnest(%(recorders)s::{recorder_type}[], %(id_digests)s::bigint[], %(content_digests)s::bigint[])
    AS n (recorder, id_digest, content_digest)
ON CONFLICT (recorder, id_digest) DO NOTHING;

-- name: insert_dead_letter
-- One refused event, byte for byte. Refused again after its position was moved back, it keeps its row.
INSERT INTO {schema}._dead_letters AS d (
    reason, path, detail, sqlstate, register, recorder, event_id, position_id, event_offset, event_at, event_key,
    event_value, header_names, header_values, batch_id
)
VALUES (
    %(reason)s, %(path)s, %(detail)s, %(sqlstate)s, %(register)s, %(recorder)s, %(event_id)s, %(position_id)s,
    %(event_offset)s, %(event_at)s, %(event_key)s, %(event_value)s, %(header_names)s, %(header_values)s, %(batch_id)s
)
ON CONFLICT (position_id, event_offset) DO UPDATE SET
    reason = excluded.reason, path = excluded.path, detail = excluded.detail, sqlstate = excluded.sqlstate,
    batch_id = excluded.batch_id;

-- name: insert_batch
-- What became of the events of each partition: every offset is in exactly one of these counts.
INSERT INTO {schema}._batches (
    batch_id, position_id, first_offset, next_offset, events, applied, duplicates, stale, dead_letters, movements, worker
)
SELECT %(batch_id)s, n.*, %(worker)s
FROM unnest(
    %(position_ids)s::integer[], %(first_offsets)s::bigint[], %(next_offsets)s::bigint[], %(events)s::bigint[],
    %(applied)s::bigint[], %(duplicates)s::bigint[], %(stale)s::bigint[], %(dead_letters)s::bigint[], %(movements)s::bigint[]
) AS n;

-- name: copy_movements
-- The new movements; the trigger of this statement folds them, and is the first to lock cells.
COPY {movements} ({columns}, period, recorder, position_id, event_offset, batch_id) FROM STDIN;

-- name: partition_bounds
-- From which second and before which one the partitions of a register reach, in order.
SELECT extract(EPOCH FROM b.starts)::bigint, extract(EPOCH FROM b.ends)::bigint FROM {schema}._partition_bounds(%(register)s) AS b;

-- name: ensure_partitions
-- Create the partitions that hold these instants.
SELECT {schema}._ensure_partitions_at(%(register)s, %(instants)s::timestamptz[]);

-- name: announce_partitions
-- Have all sessions look for partitions again, once new ones are committed.
SELECT {schema}._announce_partitions(%(register)s);
