-- What grows for ever unless somebody looks after it. Each call does a bounded part, in a short transaction of its own.
CREATE OR REPLACE FUNCTION _roll_up_batches(p_older_than interval, p_most integer) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    removed integer;
BEGIN
    -- One at a time: a row that another session is adding up must not be left out of the middle of a range.
    PERFORM pg_advisory_xact_lock(_lock_key('batches'));
    WITH oldest AS (
        SELECT x.batch_id, x.position_id, x.first_offset, x.next_offset FROM _batches AS x
        WHERE x.committed_at < now() - p_older_than ORDER BY x.batch_id, x.position_id LIMIT p_most
    ), compared AS (
        SELECT o.*, o.first_offset IS DISTINCT FROM lag(o.next_offset) OVER history AS jumps
        FROM oldest AS o WINDOW history AS (PARTITION BY o.position_id ORDER BY o.batch_id)
    ), runs AS (
        -- Where somebody moved the position a new row begins, so that no row covers what was skipped.
        SELECT c.batch_id, c.position_id, count(*) FILTER (WHERE c.jumps) OVER (PARTITION BY c.position_id ORDER BY c.batch_id) AS run
        FROM compared AS c
    ), sized AS (
        SELECT r.*, count(*) OVER (PARTITION BY r.position_id, r.run) AS together FROM runs AS r
    ), gone AS (
        DELETE FROM _batches AS b USING sized AS o
        WHERE b.batch_id = o.batch_id AND b.position_id = o.position_id AND o.together > 1
        RETURNING b.*, o.run
    ), kept AS (
        INSERT INTO _batches (
            batch_id, position_id, first_offset, next_offset, events, applied, duplicates, stale, dead_letters, movements, worker,
            committed_at
        )
        SELECT
            max(g.batch_id), g.position_id, min(g.first_offset), max(g.next_offset), sum(g.events), sum(g.applied), sum(g.duplicates),
            sum(g.stale), sum(g.dead_letters), sum(g.movements), (array_agg(g.worker ORDER BY g.batch_id DESC))[1], max(g.committed_at)
        FROM gone AS g GROUP BY g.position_id, g.run
        RETURNING 1
    )
    SELECT (SELECT count(*) FROM gone) - (SELECT count(*) FROM kept) INTO removed;
    RETURN removed;
END
$$;
COMMENT ON FUNCTION _roll_up_batches(interval, integer) IS
'Adds old batches of a position up to one row, the oldest first, so that counts and offsets stay without a gap; returns how many rows fewer there are. '
'p_most must be greater than the number of positions and of moves of theirs.';

CREATE OR REPLACE FUNCTION _forget_dead_letters(p_older_than interval, p_relayed_only boolean, p_most integer) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    removed integer;
BEGIN
    DELETE FROM _dead_letters AS d WHERE d.id IN (
        SELECT x.id FROM _dead_letters AS x
        WHERE x.state <> 'waiting' AND x.settled_at < now() - p_older_than AND (x.relayed_at IS NOT NULL OR NOT p_relayed_only)
        ORDER BY x.id LIMIT p_most FOR UPDATE SKIP LOCKED
    );
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$$;
COMMENT ON FUNCTION _forget_dead_letters(interval, boolean, integer) IS
'Removes dead letters that were settled long ago; one that waits for a decision is never removed. Returns how many.';

CREATE OR REPLACE FUNCTION _create_partitions_ahead(p_register text, p_days integer) RETURNS integer LANGUAGE sql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT register_create_partitions(p_register, make_interval(days => p_days))
$$;
COMMENT ON FUNCTION _create_partitions_ahead(text, integer) IS 'What register_create_partitions() does, for the compactor.';
