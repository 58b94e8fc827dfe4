CREATE OR REPLACE FUNCTION register_create(
    name text, dimensions jsonb, resources jsonb, kind text DEFAULT 'balance', totals_period text DEFAULT 'day',
    partition_by text DEFAULT 'month', high_write boolean DEFAULT false, recorder_type text DEFAULT 'text',
    time_zone text DEFAULT 'UTC', tombstone_unposts boolean DEFAULT false, period_min date DEFAULT '2000-01-01',
    period_max date DEFAULT '2099-12-31', high_write_auto boolean DEFAULT false, subtotals jsonb DEFAULT '[]'
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    register _registers;
BEGIN
    register := _check_declaration(ROW(
        name, kind, dimensions, resources, totals_period, partition_by, coalesce(high_write, false), recorder_type, time_zone,
        coalesce(tombstone_unposts, false), period_min, period_max, now(), coalesce(high_write_auto, false), subtotals
    )::_registers);
    PERFORM _change_registry();
    IF EXISTS (SELECT 1 FROM _registers AS r WHERE r.name = register.name) THEN
        PERFORM _fail(
            'TS004', format('register %s exists already', register.name),
            'register_info() shows it; register_drop() removes it.'
        );
    END IF;
    PERFORM _create_register(register);
END
$$;
COMMENT ON FUNCTION register_create(text, jsonb, jsonb, text, text, text, boolean, text, text, boolean, date, date, boolean, jsonb) IS
'Declares a register and makes its tables, functions and views.';

CREATE OR REPLACE FUNCTION register_drop(name text, force boolean DEFAULT false) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    register _registers := _register(name);
    filled boolean;
    object record;
BEGIN
    PERFORM _change_registry();
    PERFORM _discard_rebuild(name);
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', register.name || '_movements') INTO filled;
    IF filled AND NOT coalesce(force, false) THEN
        PERFORM _fail(
            'TS005', format('register %s has movements', register.name),
            'register_drop(name, true) drops it with all of them.'
        );
    END IF;
    FOR object IN
        SELECT p.oid::regprocedure AS signature FROM pg_proc AS p
        WHERE p.pronamespace = current_schema()::regnamespace
        AND p.proname = ANY (SELECT register.name || s FROM unnest(ARRAY[
            '_balance', '_turnover', '_movements', '_balance_at', '_turnover_between', '_turnover_between_instants', '_balance_by',
            '_balance_at_instant', '_fold', '_merge_pending',
            '_fold_pending', '_append', '_merge_deltas', '_movements_inserted', '_movements_deleted', '_read_elements', '_post_elements',
            '_unpost_recorder']) AS s)
    LOOP
        EXECUTE format('DROP FUNCTION %s CASCADE', object.signature);
    END LOOP;
    FOR object IN
        SELECT c.oid::regclass AS signature FROM pg_class AS c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
        AND (c.relname = ANY (SELECT register.name || s FROM unnest(ARRAY[
            '_movements', '_totals_day', '_totals_month', '_totals_year', '_balance_cache', '_recorders',
            '_recorder_events', '_pending_folds', '_opening', '_balance_cache_delta', '_subtotals']) AS s) AND _is_our_own(c.oid)
        OR c.relname IN (SELECT d.partition_name FROM _detached_partitions AS d WHERE d.register = register.name))
    LOOP
        EXECUTE format('DROP TABLE %s CASCADE', object.signature);
    END LOOP;
    EXECUTE format('DROP TYPE %I', register.name || '_delta');
    DELETE FROM _detached_partitions AS d WHERE d.register = register.name;
    DELETE FROM _registers AS r WHERE r.name = register.name;
END
$$;
COMMENT ON FUNCTION register_drop(text, boolean) IS 'Removes a register and everything in it; refuses one with movements unless forced.';

CREATE OR REPLACE FUNCTION register_list() RETURNS TABLE (
    name text, kind text, dimensions jsonb, resources jsonb, totals_period text, partition_by text, high_write boolean,
    recorder_type text, time_zone text, movements_estimate bigint, created_at timestamptz
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
    SELECT
        r.name, r.kind, r.dimensions, r.resources, r.totals_period, r.partition_by, r.high_write, r.recorder_type, r.time_zone,
        (
            SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::bigint FROM pg_inherits AS i
            INNER JOIN pg_class AS c ON i.inhrelid = c.oid
            WHERE i.inhparent = to_regclass(quote_ident(r.name || '_movements'))
        ),
        r.created_at
    FROM _registers AS r
    WHERE r.name NOT IN (SELECT b.shadow FROM _rebuilds AS b)
    ORDER BY r.name
$$;
COMMENT ON FUNCTION register_list() IS 'One row per register. The number of movements is the planner''s estimate: nothing is counted.';

CREATE OR REPLACE FUNCTION register_info(p_name text) RETURNS jsonb LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(p_name);
BEGIN
    RETURN to_jsonb(register) || jsonb_build_object(
        'movements_estimate', (SELECT l.movements_estimate FROM register_list() AS l WHERE l.name = p_name),
        'partitions', (SELECT count(*) FROM pg_inherits AS i WHERE i.inhparent = to_regclass(quote_ident(p_name || '_movements')))
    );
END
$$;
COMMENT ON FUNCTION register_info(text) IS 'The declaration of a register, with the number of its partitions and an estimate of its movements.';
