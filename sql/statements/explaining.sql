-- What became of an event, and of a document.

-- name: wait_for_event
-- Whether an event has been applied, as soon as it has, or when the time is over.
SELECT {schema}.wait_for_event(
    %(topic)s, %(partition)s, %(offset)s, p_timeout => %(timeout)s::interval, p_group => %(consumer_group)s
);
