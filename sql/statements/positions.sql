-- Taking partitions, and reading where they stand.

-- name: lock_positions
-- The stored positions of these partitions; a batch of theirs that still runs is waited for.
SELECT p.id, p.topic, p.partition, p.topic_id, p.next_offset
FROM {schema}._positions AS p
INNER JOIN unnest(%(topics)s::text[], %(partitions)s::integer[]) AS w (topic, partition)
    ON p.topic = w.topic AND p.partition = w.partition
WHERE p.consumer_group = %(consumer_group)s
ORDER BY p.topic, p.partition
FOR UPDATE OF p;

-- name: claim_position
-- Take a partition: its epoch grows, so that batches of any earlier owner are fenced.
INSERT INTO {schema}._positions AS p (consumer_group, topic, topic_id, partition, next_offset, owner)
VALUES (%(consumer_group)s, %(topic)s, %(topic_id)s, %(partition)s, %(next_offset)s, %(owner)s)
ON CONFLICT (consumer_group, topic, partition) DO UPDATE SET
    epoch = p.epoch + 1, owner = excluded.owner, topic_id = coalesce(excluded.topic_id, p.topic_id), updated_at = now()
RETURNING p.id, p.next_offset, p.epoch;

-- name: read_positions
-- Where these positions stand and under which epoch: tells whether a commit of unknown outcome took place.
SELECT p.id, p.next_offset, p.epoch FROM {schema}._positions AS p WHERE p.id = ANY(%(position_ids)s::integer[]);
