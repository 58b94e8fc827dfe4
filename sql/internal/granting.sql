-- Who may do what. Nothing here is anybody's but the owner's and what is granted below; docs/privileges.md shows the result.
-- What needs more rights than its caller has is SECURITY DEFINER; internal functions run as whoever called one of those.
CREATE OR REPLACE FUNCTION _grant_schema() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    register _registers;
BEGIN
    PERFORM _close_functions();
    IF to_regrole('tallystream_ingest') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO tallystream_ingest', current_schema());
        GRANT SELECT ON _migrations, _registers, _registry_version, _rebuilds TO tallystream_ingest;
        GRANT SELECT, INSERT ON _positions, _batches, _dead_letters TO tallystream_ingest;
        GRANT SELECT ON _position_moves, _skipped_offsets TO tallystream_ingest;
        GRANT UPDATE (topic_id, next_offset, epoch, owner, last_event_at, updated_at, dead_letters_in_a_row, attempts) ON _positions TO tallystream_ingest;
        -- What was refused stays as it was, byte for byte; only why, and what became of it, is written again.
        GRANT UPDATE (state, reason, path, detail, sqlstate, batch_id, settled_at, settled_note, relayed_at) ON _dead_letters TO tallystream_ingest;
        GRANT USAGE ON SEQUENCE _batch_id TO tallystream_ingest;
        GRANT EXECUTE ON FUNCTION
            _lock_key(text), _ensure_partitions_at(text, timestamptz[]), _announce_partitions(text), _see_partitions(text), _partition_bounds(text),
            _merge_slice(text, interval, integer, bigint), _pending_deltas(),
            _begin_batch(boolean, integer[], bigint[], bigint[], bigint[], timestamptz[], integer[]),
            _move_position(text, text, integer, bigint, text, bigint, bigint, boolean, boolean, text, text),
            _resume_position(text, text, integer, text, text),
            _waiting_for_cells(), _switch_to_high_write(text),
            _roll_up_batches(interval, integer), _forget_dead_letters(interval, boolean, integer),
            _create_partitions_ahead(text, integer)
        TO tallystream_ingest;
    END IF;
    IF to_regrole('tallystream_reader') IS NOT NULL THEN
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO tallystream_reader', current_schema());
        GRANT EXECUTE ON FUNCTION
            register_list(), register_info(text), register_partitions(text), register_stats(text), register_verify(text),
            register_explain(text, text, integer), wait_for_event(text, integer, bigint, interval, interval, text)
        TO tallystream_reader;
    END IF;
    FOR register IN SELECT * FROM _registers ORDER BY name LOOP
        PERFORM _grant_register(register);
    END LOOP;
END
$$;
COMMENT ON FUNCTION _grant_schema() IS 'Grants what the roles tallystream_ingest and tallystream_reader need, where they exist.';

CREATE OR REPLACE FUNCTION _grant_new_roles() RETURNS boolean LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    IF EXISTS (
        SELECT 1 FROM pg_roles AS r
        WHERE r.rolname IN ('tallystream_ingest', 'tallystream_reader') AND NOT has_schema_privilege(r.oid, current_schema(), 'USAGE')
    ) THEN
        PERFORM _grant_schema();
        RETURN true;
    END IF;
    RETURN false;
END
$$;
COMMENT ON FUNCTION _grant_new_roles() IS 'Grants the roles what they need if one of them was made after the last migration; says whether it was so.';

CREATE OR REPLACE FUNCTION _grant_register(p_register _registers) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    object text;
BEGIN
    PERFORM _close_functions();
    EXECUTE format('REVOKE ALL ON TYPE %I FROM PUBLIC', p_register.name || '_delta');
    IF EXISTS (SELECT 1 FROM _rebuilds AS b WHERE b.shadow = p_register.name) THEN
        RETURN;
    END IF;
    IF to_regrole('tallystream_ingest') IS NOT NULL THEN
        -- It deletes by recorder and period, and never has to read a movement.
        EXECUTE format(
            'GRANT SELECT (recorder, period), INSERT, DELETE ON %I TO tallystream_ingest', p_register.name || '_movements'
        );
        EXECUTE format('GRANT SELECT, INSERT, UPDATE ON %I TO tallystream_ingest', p_register.name || '_recorders');
        EXECUTE format('GRANT SELECT, INSERT ON %I TO tallystream_ingest', p_register.name || '_recorder_events');
    END IF;
    IF to_regrole('tallystream_reader') IS NOT NULL THEN
        FOR object IN SELECT o FROM _readable_objects(p_register) AS o LOOP
            EXECUTE format(
                'GRANT %s ON %s TO tallystream_reader', CASE WHEN object LIKE 'FUNCTION %' THEN 'EXECUTE' ELSE 'SELECT' END, object
            );
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION _grant_register(_registers) IS 'Grants the roles what they need of one register.';

CREATE OR REPLACE FUNCTION _close_functions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    signature text;
BEGIN
    -- Without a list of privileges a function is everybody's. One that somebody granted to everybody on purpose has a list.
    FOR signature IN
        SELECT p.oid::regprocedure::text FROM pg_proc AS p
        WHERE p.pronamespace = current_schema()::regnamespace AND p.proacl IS NULL
        AND pg_get_userbyid(p.proowner) = current_user
    LOOP
        EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', signature);
    END LOOP;
END
$$;
COMMENT ON FUNCTION _close_functions() IS 'Takes the functions of this schema that are everybody''s by default away from everybody.';

CREATE OR REPLACE FUNCTION _readable_objects(p_register _registers) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT format('TABLE %I', c.relname) FROM pg_class AS c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'v'
    AND c.relname = ANY (SELECT p_register.name || '_' || s FROM unnest(ARRAY[
        'balances', 'journal', 'turnovers_day', 'turnovers_month', 'turnovers_year']) AS s)
    UNION ALL
    SELECT format('FUNCTION %s', p.oid::regprocedure) FROM pg_proc AS p
    WHERE p.pronamespace = current_schema()::regnamespace
    AND p.proname = ANY (SELECT p_register.name || '_' || s FROM unnest(ARRAY[
        'balance', 'balance_at', 'balance_at_instant', 'balance_by', 'movements', 'turnover', 'turnover_between',
        'turnover_between_instants']) AS s)
$$;
COMMENT ON FUNCTION _readable_objects(_registers) IS 'The views and read functions of a register, as GRANT names them.';

CREATE OR REPLACE FUNCTION _read_grants(p_register _registers) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT coalesce(array_agg(format(
        'GRANT %s%s ON %s TO %s%s', a.privilege_type, coalesce(' (' || g.column_name || ')', ''), g.object,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
        CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
    )), '{}')
    FROM (
        SELECT format('TABLE %I', c.relname) AS object, NULL AS column_name, c.relacl AS privileges, c.relowner AS owner
        FROM pg_class AS c WHERE c.relnamespace = current_schema()::regnamespace
        UNION ALL
        SELECT format('TABLE %I', c.relname), quote_ident(b.attname), b.attacl, c.relowner
        FROM pg_class AS c INNER JOIN pg_attribute AS b ON c.oid = b.attrelid
        WHERE c.relnamespace = current_schema()::regnamespace
        UNION ALL
        SELECT format('FUNCTION %s', p.oid::regprocedure), NULL, p.proacl, p.proowner
        FROM pg_proc AS p WHERE p.pronamespace = current_schema()::regnamespace
    ) AS g
    CROSS JOIN LATERAL aclexplode(g.privileges) AS a
    WHERE g.object IN (SELECT o FROM _readable_objects(p_register) AS o) AND a.grantee <> g.owner
$$;
COMMENT ON FUNCTION _read_grants(_registers) IS
'The statements that grant what is granted now on the views and read functions of a register, to be executed when they were made anew.';
