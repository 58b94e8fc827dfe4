-- How positions move: with the batches that they count, and where a person decides.

-- A function keeps the plans of what every batch begins with. Statements sent by themselves are planned each time, because a pooler may
-- stand between: up to the locks of its recorders a batch took 2.6 ms on a slow machine, and takes 2.0.
CREATE OR REPLACE FUNCTION _begin_batch(
    p_hold_registry boolean, p_position_ids integer[], p_expected bigint[], p_epochs bigint[], p_next_offsets bigint[],
    p_last_event_at timestamptz[], p_attempts integer[],
    OUT batch_id bigint, OUT registry_version bigint, OUT advanced integer, OUT in_a_row integer[]
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    -- Declarations stay as they are while the batch runs; other batches are not hindered.
    IF p_hold_registry THEN
        PERFORM pg_advisory_xact_lock_shared(_lock_key('registry'));
    END IF;
    -- Read after the lock, with a snapshot of its own.
    SELECT v.version INTO registry_version FROM _registry_version AS v;
    -- Locked in the order in which claims lock them: nobody waits for anybody in a ring.
    SELECT array_agg(l.dead_letters_in_a_row ORDER BY array_position(p_position_ids, l.id)) INTO in_a_row
    FROM (
        SELECT p.id, p.dead_letters_in_a_row FROM _positions AS p
        WHERE p.id = ANY (p_position_ids)
        ORDER BY p.topic, p.partition
        FOR UPDATE OF p
    ) AS l;
    -- Compare and set: a partition moves on if it still stands where this worker left it, under its epoch.
    UPDATE _positions AS p SET
        next_offset = n.next_offset, last_event_at = coalesce(n.last_event_at, p.last_event_at), updated_at = now(),
        attempts = n.attempts
    FROM unnest(p_position_ids, p_expected, p_epochs, p_next_offsets, p_last_event_at, p_attempts)
        AS n (id, expected, epoch, next_offset, last_event_at, attempts)
    WHERE p.id = n.id AND p.next_offset = n.expected AND p.epoch = n.epoch;
    GET DIAGNOSTICS advanced = ROW_COUNT;
    batch_id := nextval('_batch_id');
END
$$;
COMMENT ON FUNCTION _begin_batch(boolean, integer[], bigint[], bigint[], bigint[], timestamptz[], integer[]) IS
'Begins a batch: holds the declarations and returns their version, moves positions that are as expected and counts them; with the dead letters in a row that each had.';

CREATE OR REPLACE FUNCTION _next_epoch(p_epoch bigint) RETURNS bigint LANGUAGE sql VOLATILE
RETURN greatest(p_epoch + 1, (extract(EPOCH FROM clock_timestamp()) * 1000000)::bigint);
COMMENT ON FUNCTION _next_epoch(bigint) IS 'An epoch that was not given before, not even by a server that was replaced.';

CREATE OR REPLACE FUNCTION _move_position(
    p_group text, p_topic text, p_partition integer, p_next_offset bigint, p_topic_id text, p_log_start bigint, p_log_end bigint,
    p_accept_topic boolean, p_truncated boolean, p_reason text, p_client text,
    OUT moved_from bigint, OUT moved_to bigint, OUT skipped bigint, OUT retired boolean
) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    was _positions;
    place integer;
    move bigint;
    other_topic boolean;
    truncated boolean;
    unread_from bigint;
BEGIN
    -- A batch that is being committed is waited for; one that comes later is fenced by the epoch.
    SELECT p.* INTO was FROM _positions AS p
    WHERE p.consumer_group = p_group AND p.topic = p_topic AND p.partition = p_partition AND p.retired_at IS NULL FOR UPDATE;
    other_topic := coalesce(was.topic_id <> p_topic_id, false);
    IF other_topic AND NOT p_accept_topic THEN
        PERFORM _fail(
            'TS050', format('topic %s has the id %s now, and the position belongs to the topic with the id %s', p_topic, p_topic_id, was.topic_id),
            'Accept the new topic explicitly; the old one''s batches and dead letters stay.'
        );
    END IF;
    -- Offsets of another log, or of one that was cut off, come again with other events: they need a row of their own.
    -- A position that is behind the end only now has moved on with the log since both were looked at.
    truncated := p_truncated AND coalesce(was.next_offset > p_log_end, false);
    retired := other_topic OR truncated;
    IF retired THEN
        UPDATE _positions SET retired_at = now(), epoch = _next_epoch(epoch) WHERE id = was.id;
    END IF;
    IF retired OR was.id IS NULL THEN
        INSERT INTO _positions (consumer_group, topic, topic_id, partition, next_offset, owner)
        VALUES (p_group, p_topic, p_topic_id, p_partition, p_next_offset, '') RETURNING id INTO place;
    ELSE
        place := was.id;
        UPDATE _positions SET
            next_offset = p_next_offset, epoch = _next_epoch(epoch), owner = '', topic_id = coalesce(p_topic_id, topic_id),
            dead_letters_in_a_row = 0, attempts = 0, updated_at = now()
        WHERE id = place;
    END IF;
    INSERT INTO _position_moves (
        position_id, retired_position_id, action, from_offset, to_offset, from_topic_id, to_topic_id, log_start, log_end,
        dead_letters_in_a_row, reason, client
    )
    VALUES (
        place, CASE WHEN retired THEN was.id END, 'set', was.next_offset, p_next_offset, was.topic_id,
        coalesce(p_topic_id, was.topic_id), p_log_start, p_log_end, coalesce(was.dead_letters_in_a_row, 0), p_reason, p_client
    ) RETURNING id INTO move;
    unread_from := CASE
        WHEN other_topic OR was.id IS NULL THEN coalesce(p_log_start, p_next_offset)
        WHEN truncated THEN p_log_end
        ELSE was.next_offset
    END;
    skipped := _note_skipped(place, unread_from, p_next_offset, move);
    moved_from := was.next_offset;
    moved_to := p_next_offset;
END
$$;
COMMENT ON FUNCTION _move_position(text, text, integer, bigint, text, bigint, bigint, boolean, boolean, text, text) IS
'Moves a position as a person decided, with the reason; fences its worker; records what is skipped. A position of another log is retired, and a new one made.';

CREATE OR REPLACE FUNCTION _note_skipped(p_position_id integer, p_first bigint, p_next bigint, p_move bigint) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    noted bigint;
BEGIN
    -- What lies behind the position is going to be read after all.
    DELETE FROM _skipped_offsets AS s WHERE s.position_id = p_position_id AND s.first_offset >= p_next;
    UPDATE _skipped_offsets AS s SET next_offset = p_next WHERE s.position_id = p_position_id AND s.next_offset > p_next;
    WITH dealt_with AS (
        SELECT range_agg(r.span) AS spans
        FROM (
            SELECT int8range(b.first_offset, b.next_offset) AS span FROM _batches AS b
            WHERE b.position_id = p_position_id AND b.next_offset > p_first AND b.first_offset < p_next
            UNION ALL
            SELECT int8range(s.first_offset, s.next_offset) FROM _skipped_offsets AS s WHERE s.position_id = p_position_id
        ) AS r
    ), missed AS (
        SELECT int8multirange(int8range(p_first, greatest(p_first, p_next))) - coalesce(d.spans, '{}') AS spans FROM dealt_with AS d
    ), added AS (
        INSERT INTO _skipped_offsets (position_id, first_offset, next_offset, move_id)
        SELECT p_position_id, lower(m.span), upper(m.span), p_move FROM (SELECT unnest(spans) AS span FROM missed) AS m
        RETURNING next_offset - first_offset AS offsets
    )
    SELECT coalesce(sum(a.offsets), 0) INTO noted FROM added AS a;
    RETURN noted;
END
$$;
COMMENT ON FUNCTION _note_skipped(integer, bigint, bigint, bigint) IS
'Records which offsets between two were never read; forgets those behind the second, which will be. Returns how many.';

CREATE OR REPLACE FUNCTION _resume_position(p_group text, p_topic text, p_partition integer, p_reason text, p_client text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    was _positions;
BEGIN
    SELECT p.* INTO was FROM _positions AS p
    WHERE p.consumer_group = p_group AND p.topic = p_topic AND p.partition = p_partition AND p.retired_at IS NULL FOR UPDATE;
    IF was.id IS NULL THEN
        PERFORM _fail(
            'TS050', format('group %s has no position in topic %s partition %s', p_group, p_topic, p_partition),
            'tallystream positions list shows those there are.'
        );
    END IF;
    UPDATE _positions SET
        dead_letters_in_a_row = 0, attempts = 0, epoch = _next_epoch(epoch), owner = '', updated_at = now()
    WHERE id = was.id;
    INSERT INTO _position_moves (
        position_id, action, from_offset, to_offset, from_topic_id, to_topic_id, dead_letters_in_a_row, reason, client
    )
    VALUES (
        was.id, 'resume', was.next_offset, was.next_offset, was.topic_id, was.topic_id, was.dead_letters_in_a_row, p_reason, p_client
    );
    RETURN was.dead_letters_in_a_row;
END
$$;
COMMENT ON FUNCTION _resume_position(text, text, integer, text, text) IS
'Lets a partition go on from where it is, with the reason: dead letters are counted from zero again. Returns how many there were in a row.';
