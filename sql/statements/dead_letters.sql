-- What an operator does with refused events.

-- name: list_dead_letters
-- The newest dead letters in a state, without their payload.
SELECT
    d.id, d.state, d.reason, d.path, d.detail, d.register, d.recorder, d.event_id, p.topic, p.partition, d.event_offset,
    d.created_at
FROM {schema}._dead_letters AS d
LEFT JOIN {schema}._positions AS p ON d.position_id = p.id
WHERE
    (%(state)s::text IS NULL OR d.state = %(state)s) AND (%(reason)s::text IS NULL OR d.reason = %(reason)s)
    AND (%(register)s::text IS NULL OR d.register = %(register)s)
ORDER BY d.id DESC
LIMIT %(most)s;

-- name: show_dead_letter
-- One dead letter with everything that is known of it.
SELECT
    d.id, d.state, d.reason, d.path, d.detail, d.sqlstate, d.register, d.recorder, d.event_id, p.topic, p.partition,
    d.event_offset, d.event_at, d.event_key, d.event_value, d.header_names, d.header_values, d.batch_id, d.created_at,
    d.settled_at, d.settled_note
FROM {schema}._dead_letters AS d
LEFT JOIN {schema}._positions AS p ON d.position_id = p.id
WHERE d.id = %(id)s;

-- name: hold_registry
-- Keep declarations from changing meanwhile; batches are not hindered.
SELECT pg_advisory_xact_lock_shared({schema}._lock_key('registry'));

-- name: next_batch_id
-- A number as that of a batch, for what is applied after all.
SELECT nextval('{schema}._batch_id'::regclass);

-- name: lock_dead_letters
-- Waiting dead letters to try again, oldest first; those that another session is trying are left out.
SELECT d.id, d.position_id, p.topic, p.partition, d.event_offset, d.event_at, d.event_key, d.event_value, d.header_names, d.header_values
FROM {schema}._dead_letters AS d
LEFT JOIN {schema}._positions AS p ON d.position_id = p.id
WHERE
    d.state = 'waiting' AND (%(ids)s::bigint[] IS NULL OR d.id = ANY(%(ids)s))
    AND (%(reason)s::text IS NULL OR d.reason = %(reason)s) AND d.id > %(after)s
ORDER BY d.id
LIMIT %(most)s
FOR UPDATE OF d SKIP LOCKED;

-- name: settle_dead_letters
-- Say what became of dead letters.
UPDATE {schema}._dead_letters SET state = %(state)s, settled_at = now(), settled_note = %(note)s
WHERE id = ANY(%(ids)s::bigint[]) AND state = 'waiting';

-- name: refuse_dead_letter_again
-- Record the present reason of a dead letter that was refused again.
UPDATE {schema}._dead_letters SET reason = %(reason)s, path = %(path)s, detail = %(detail)s, sqlstate = %(sqlstate)s
WHERE id = %(id)s;

-- name: count_dead_letters
-- Dead letters by state and reason.
SELECT state, reason, count(*) FROM {schema}._dead_letters GROUP BY state, reason ORDER BY state, reason;
