-- Reading one's own event: whoever has sent it asks here before it asks a register.
CREATE OR REPLACE FUNCTION wait_for_event(
    p_topic text, p_partition integer, p_offset bigint, p_timeout interval DEFAULT '10 seconds',
    p_poll interval DEFAULT '50 milliseconds', p_group text DEFAULT NULL
) RETURNS boolean LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    deadline timestamptz := clock_timestamp() + p_timeout;
    event text := format('%s[%s]@%s', p_topic, p_partition, p_offset);
BEGIN
    IF p_topic IS NULL OR p_partition IS NULL OR p_offset IS NULL THEN
        PERFORM _fail(
            'TS006', format('event %s has no topic, partition or offset', event), 'Give all three, as the producer was told them.'
        );
    END IF;
    IF p_timeout IS NULL OR p_timeout NOT BETWEEN '0' AND interval '1 hour' OR p_poll IS NULL OR p_poll < '1 millisecond' THEN
        PERFORM _fail(
            'TS006', format('event %s: p_timeout is %s, p_poll is %s', event, coalesce(p_timeout::text, 'null'),
                coalesce(p_poll::text, 'null')),
            'Give a timeout of at most an hour, and ask at most every millisecond.'
        );
    END IF;
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        PERFORM _fail(
            'TS040', format('event %s cannot be waited for under %s: its snapshot never changes', event,
                current_setting('transaction_isolation')),
            'Wait in a transaction of its own, READ COMMITTED, and begin the other one afterwards.'
        );
    END IF;
    -- Each statement of a volatile function takes a snapshot of its own, so it sees what was committed since.
    WHILE NOT EXISTS (
        SELECT 1 FROM _positions AS p
        WHERE p.topic = p_topic AND p.partition = p_partition AND p.next_offset > p_offset AND p.retired_at IS NULL
        AND (p_group IS NULL OR p.consumer_group = p_group)
    ) LOOP
        IF clock_timestamp() >= deadline THEN
            RETURN false;
        END IF;
        PERFORM pg_sleep(extract(EPOCH FROM least(p_poll, deadline - clock_timestamp())));
    END LOOP;
    RETURN true;
END
$$;
COMMENT ON FUNCTION wait_for_event(text, integer, bigint, interval, interval, text) IS
'Waits until the event at an offset of a topic''s partition has been applied (or refused, which the dead letters tell): true. '
'False when p_timeout is over. Ask a register in the next statement: this one''s snapshot is older. '
'Without p_group, any consumer group''s position counts. A transaction that wrote movements before may hold up the very batch it waits for.';
