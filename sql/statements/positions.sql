-- Taking partitions, and reading where they stand.

-- name: end_hung_sessions
-- End sessions of this program that hold locks here and whose process has stood still for longer than a statement may take.
SELECT pg_terminate_backend(a.pid)
FROM pg_stat_activity AS a
WHERE
    a.datname = current_database() AND a.usename = session_user AND a.application_name = %(application_name)s
    AND a.state <> 'idle' AND a.wait_event = 'ClientRead' AND a.state_change < clock_timestamp() - %(after_ms)s * interval '1 ms'
    AND EXISTS (
        SELECT 1 FROM pg_locks AS l
        INNER JOIN pg_class AS c ON l.relation = c.oid
        WHERE l.pid = a.pid AND c.relnamespace = (SELECT p.relnamespace FROM pg_class AS p WHERE p.oid = '{schema}._positions'::regclass)
    );

-- name: lock_positions
-- The stored positions of these partitions; a batch of theirs that still runs is waited for.
SELECT p.id, p.topic, p.partition, p.topic_id, p.next_offset, p.dead_letters_in_a_row
FROM {schema}._positions AS p
INNER JOIN unnest(%(topics)s::text[], %(partitions)s::integer[]) AS w (topic, partition)
    ON p.topic = w.topic AND p.partition = w.partition
WHERE p.consumer_group = %(consumer_group)s AND p.retired_at IS NULL
ORDER BY p.topic, p.partition
FOR UPDATE OF p;

-- name: claim_position
-- Take a partition: its epoch grows, by the clock as well, so that no fail-over gives an earlier owner's again, who is fenced. One more
-- attempt counts against it until batches prove the contrary.
INSERT INTO {schema}._positions AS p (consumer_group, topic, topic_id, partition, next_offset, owner, attempts)
VALUES (%(consumer_group)s, %(topic)s, %(topic_id)s, %(partition)s, %(next_offset)s, %(owner)s, 1)
ON CONFLICT (consumer_group, topic, partition) WHERE retired_at IS NULL DO UPDATE SET
    epoch = greatest(p.epoch + 1, (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint), owner = excluded.owner,
    topic_id = coalesce(excluded.topic_id, p.topic_id), updated_at = now(),
    attempts = CASE WHEN p.next_offset < %(log_end)s THEN least(p.attempts + 1, %(most_attempts)s) ELSE p.attempts END
-- What was not there when it was looked for was compared with nothing.
WHERE %(is_known)s
RETURNING p.id, p.next_offset, p.epoch, p.attempts;

-- name: read_positions
-- Where these positions stand and under which epoch: tells whether a commit of unknown outcome took place.
SELECT p.id, p.next_offset, p.epoch FROM {schema}._positions AS p WHERE p.id = ANY(%(position_ids)s::integer[]);

-- name: count_in_a_row
-- How many events before these positions were refused in a row.
UPDATE {schema}._positions AS p SET dead_letters_in_a_row = n.length
FROM unnest(%(position_ids)s::integer[], %(lengths)s::integer[]) AS n (id, length)
WHERE p.id = n.id;

-- name: prevailing_reason
-- The reason that most of the last dead letters before a position have, and how many have it.
SELECT d.reason, count(*)
FROM (
    SELECT x.reason FROM {schema}._dead_letters AS x
    WHERE x.position_id = %(position_id)s AND x.event_offset < %(next_offset)s
    ORDER BY x.event_offset DESC
    LIMIT %(most)s
) AS d
GROUP BY d.reason
ORDER BY count(*) DESC, d.reason
LIMIT 1;

-- name: move_position
-- Move a position as a person decided, and record it.
SELECT m.moved_from, m.moved_to, m.skipped, m.retired
FROM {schema}._move_position(
    %(consumer_group)s, %(topic)s, %(partition)s, %(next_offset)s, %(topic_id)s, %(log_start)s, %(log_end)s,
    %(accept_topic)s, %(truncated)s, %(reason)s, %(client)s
) AS m;

-- name: resume_position
-- Let a partition go on that was stopped for its dead letters, and record it.
SELECT {schema}._resume_position(%(consumer_group)s, %(topic)s, %(partition)s, %(reason)s, %(client)s);

-- name: list_moves
-- What people did to the positions of a group, the newest first.
SELECT
    m.done_at, m.action, p.topic, p.partition, m.from_offset, m.to_offset, m.from_topic_id, m.to_topic_id,
    coalesce(s.skipped, 0), m.done_by, m.client, m.reason
FROM {schema}._position_moves AS m
INNER JOIN {schema}._positions AS p ON m.position_id = p.id
LEFT JOIN LATERAL (
    SELECT sum(x.next_offset - x.first_offset)::bigint AS skipped FROM {schema}._skipped_offsets AS x WHERE x.move_id = m.id
) AS s ON true
WHERE p.consumer_group = %(consumer_group)s
ORDER BY m.id DESC
LIMIT %(most)s;
