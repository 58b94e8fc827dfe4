-- What an operator asks first.

-- name: list_positions
-- Every position of a group, with the last batch that moved it and what its batches did.
SELECT
    p.topic, p.partition, p.topic_id, p.next_offset, p.epoch, p.owner, p.last_event_at, clock_timestamp(),
    coalesce(b.events, 0), coalesce(b.applied, 0), coalesce(b.duplicates, 0), coalesce(b.stale, 0),
    coalesce(b.dead_letters, 0), coalesce(b.movements, 0), b.last_batch_id, b.last_committed_at,
    p.id, p.dead_letters_in_a_row
FROM {schema}._positions AS p
LEFT JOIN LATERAL (
    SELECT
        sum(x.events)::bigint AS events, sum(x.applied)::bigint AS applied, sum(x.duplicates)::bigint AS duplicates,
        sum(x.stale)::bigint AS stale, sum(x.dead_letters)::bigint AS dead_letters, sum(x.movements)::bigint AS movements,
        max(x.batch_id) AS last_batch_id, max(x.committed_at) AS last_committed_at
    FROM {schema}._batches AS x WHERE x.position_id = p.id
) AS b ON true
WHERE p.consumer_group = %(consumer_group)s AND p.retired_at IS NULL
ORDER BY p.topic, p.partition;

-- name: takes_writes
-- Whether this server takes writes.
SELECT NOT pg_is_in_recovery();

-- name: count_waiting_dead_letters
-- Dead letters that nobody has settled, by reason.
SELECT d.reason, count(*) FROM {schema}._dead_letters AS d WHERE d.state = 'waiting' GROUP BY d.reason ORDER BY d.reason;

-- name: newest_waiting_dead_letters
-- The newest of them, without anything that their events said.
SELECT d.id, d.reason, d.register, p.topic, p.partition, d.event_offset, d.created_at
FROM {schema}._dead_letters AS d
LEFT JOIN {schema}._positions AS p ON d.position_id = p.id
WHERE d.state = 'waiting'
ORDER BY d.id DESC
LIMIT %(most)s;

-- name: vacuum_standing
-- How many transactions old the oldest snapshot is that VACUUM here has to keep rows for, and how many rows it has not removed.
SELECT
    coalesce((
        SELECT max(age(h.xid)) FROM (
            SELECT a.backend_xmin FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
            UNION ALL
            SELECT x.transaction FROM pg_prepared_xacts AS x WHERE x.database = current_database()
            UNION ALL
            SELECT s.xmin FROM pg_replication_slots AS s
        ) AS h (xid)
    ), 0),
    (SELECT coalesce(sum(t.n_dead_tup), 0)::bigint FROM pg_stat_all_tables AS t WHERE t.schemaname = %(schema)s);
