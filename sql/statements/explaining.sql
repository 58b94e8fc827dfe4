-- What became of an event, and of a document.

-- name: wait_for_event
-- Whether an event has been applied, as soon as it has, or when the time is over.
SELECT {schema}.wait_for_event(
    %(event_topic)s, %(event_partition)s, %(event_offset)s, p_timeout => %(timeout)s::interval, p_group => %(consumer_group)s
);

-- name: explain_recorder
-- What is known of a document in one register.
SELECT {schema}.register_explain(%(register)s, %(recorder)s, %(most)s);
