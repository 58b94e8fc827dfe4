-- What nobody may do by hand. These triggers fire for the owner as well, and no setting lifts them.
CREATE OR REPLACE FUNCTION _guard_derived() RETURNS trigger LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
BEGIN
    -- Depth 1 is a statement that somebody sent; the folding runs inside a trigger of the movements, at depth 2, and as the
    -- owner. Somebody who was granted a derived table could get to depth 2 with a trigger of his own, but not as the owner.
    IF pg_trigger_depth() < 2 OR current_user <> (SELECT pg_get_userbyid(c.relowner) FROM pg_class AS c WHERE c.oid = tg_relid) THEN
        -- Not by _fail(), which whoever is refused here may not call.
        RAISE EXCEPTION USING
            ERRCODE = 'TS020', MESSAGE = format('%s on %s is refused: its rows are derived from the movements', tg_op, tg_table_name),
            HINT = 'Write movements instead; the totals and the balance follow in the same transaction.';
    END IF;
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION _guard_derived() IS 'Refuses every direct change of a derived table.';

CREATE OR REPLACE FUNCTION _guard_movements() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
BEGIN
    PERFORM _fail(
        'TS022', format('%s on %s is refused', tg_op, tg_table_name),
        CASE tg_op
            WHEN 'UPDATE' THEN 'Movements are not changed: delete them and insert new ones, or use register_repost().'
            WHEN 'TRUNCATE' THEN 'Use DELETE, or register_drop() for the whole register.'
            ELSE 'Write to the register''s movements table, not to one of its partitions.'
        END
    );
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION _guard_movements() IS
'Refuses UPDATE and TRUNCATE of movements, and any write that names a partition.';

CREATE OR REPLACE FUNCTION _guard_detached() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(tg_argv[0]);
    before date := _detached_before(register.name);
BEGIN
    IF (old.first_period AT TIME ZONE register.time_zone)::date < before THEN
        PERFORM _fail(
            'TS031', format('register %s: recorder %s has movements before %s, which were detached', register.name, old.recorder, before),
            'Correct it with movements of another recorder in a later period.'
        );
    END IF;
    RETURN new;
END
$$;
COMMENT ON FUNCTION _guard_detached() IS 'Refuses to take movements from a recorder when some of them are in a detached partition.';
