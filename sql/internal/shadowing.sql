-- A register is rebuilt from its topic in a shadow: a register like any other, under a name of its own, that no list shows.
-- The rebuild reads under positions of its own (consumer group GROUP:rebuild:REGISTER), never past those of the live register.
CREATE OR REPLACE FUNCTION _begin_rebuild(p_register text, p_group text, p_declaration jsonb, p_mapping jsonb) RETURNS text LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(p_register);
    shadow _registers;
    begun _rebuilds;
BEGIN
    PERFORM pg_advisory_xact_lock(_lock_key('rebuild.' || p_register));
    SELECT * INTO begun FROM _rebuilds AS b WHERE b.register = p_register;
    IF FOUND THEN
        IF begun.consumer_group <> p_group OR (begun.declaration, begun.mapping) IS DISTINCT FROM (p_declaration, p_mapping) THEN
            PERFORM _fail(
                'TS060', format('register %s: a rebuild for group %s under %s%s began %s and was not finished', p_register, begun.consumer_group,
                    CASE WHEN begun.declaration IS NULL THEN 'its own declaration' ELSE 'another declaration' END,
                    CASE WHEN begun.mapping IS NULL THEN '' ELSE ' with a mapping' END, begun.begun_at),
                'Go on with it in the same way, or give it up: `tallystream rebuild REGISTER --discard`.'
            );
        END IF;
        PERFORM _check_replaceable(register, begun);
        RETURN begun.shadow;
    END IF;
    PERFORM _check_replaceable(register, NULL);
    INSERT INTO _rebuilds (register, consumer_group, declared, declaration, mapping)
    VALUES (p_register, p_group, _comparable_declaration(register), p_declaration, p_mapping)
    RETURNING * INTO begun;
    shadow := jsonb_populate_record(register, coalesce(p_declaration, '{}'));
    shadow.name := begun.shadow;
    shadow := _check_declaration(shadow);
    PERFORM _change_registry();
    PERFORM _create_register(shadow);
    IF (shadow.partition_by, shadow.time_zone) = (register.partition_by, register.time_zone) THEN
        -- Writers remember which partitions there are; none that they know of shall be missing after the exchange.
        PERFORM _ensure_partition(shadow, p.from_date) FROM register_partitions(p_register) AS p
        WHERE p.before_date > shadow.period_min AND p.from_date <= shadow.period_max;
    END IF;
    RETURN begun.shadow;
END
$$;
COMMENT ON FUNCTION _begin_rebuild(text, text, jsonb, jsonb) IS
'Makes the shadow of a register, or finds the one of a rebuild that was interrupted; returns its name.';

CREATE OR REPLACE FUNCTION _discard_rebuild(p_register text) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    begun _rebuilds;
BEGIN
    SELECT * INTO begun FROM _rebuilds AS b WHERE b.register = p_register;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    PERFORM register_drop(begun.shadow, true);
    PERFORM _forget_rebuild(begun);
    RETURN true;
END
$$;
COMMENT ON FUNCTION _discard_rebuild(text) IS 'Drops a register''s shadow and what belongs to it; says whether there was one.';

CREATE OR REPLACE FUNCTION _forget_rebuild(p_rebuild _rebuilds) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM _batches AS b USING _positions AS p
    WHERE b.position_id = p.id AND p.consumer_group = _rebuild_group(p_rebuild.consumer_group, p_rebuild.register);
    DELETE FROM _positions AS p WHERE p.consumer_group = _rebuild_group(p_rebuild.consumer_group, p_rebuild.register);
    DELETE FROM _rebuild_refusals AS f WHERE f.register = p_rebuild.register;
    DELETE FROM _rebuilds AS b WHERE b.register = p_rebuild.register;
END
$$;
COMMENT ON FUNCTION _forget_rebuild(_rebuilds) IS 'Removes a rebuild''s positions, batches, refusals, and the rebuild.';

CREATE OR REPLACE FUNCTION _rebuild_group(p_group text, p_register text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN p_group || ':rebuild:' || p_register;
COMMENT ON FUNCTION _rebuild_group(text, text) IS 'The consumer group of a rebuild''s positions; nothing ever joins it.';

CREATE OR REPLACE FUNCTION _comparable_declaration(p_register _registers) RETURNS jsonb LANGUAGE sql STABLE
RETURN to_jsonb(p_register) - '{created_at,high_write,high_write_auto}'::text[];
COMMENT ON FUNCTION _comparable_declaration(_registers) IS 'What of a declaration must not change while the register is rebuilt.';

CREATE OR REPLACE FUNCTION _check_replaceable(p_register _registers, p_rebuild _rebuilds) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found text;
BEGIN
    IF p_rebuild.declared <> _comparable_declaration(p_register) THEN
        PERFORM _fail(
            'TS061', format('register %s was altered since its rebuild began %s', p_register.name, p_rebuild.begun_at),
            'Give the rebuild up with `tallystream rebuild REGISTER --discard`, and begin it anew.'
        );
    END IF;
    SELECT string_agg(d.partition_name, ', ' ORDER BY d.from_date) INTO found FROM _detached_partitions AS d WHERE d.register = p_register.name;
    IF found IS NOT NULL THEN
        PERFORM _fail(
            'TS062', format('register %s has detached partitions: %s', p_register.name, found),
            'Its topic would bring their movements back beside the opening balance. Rebuild it from its movements: `tallystream rebuild REGISTER`.'
        );
    END IF;
    SELECT string_agg(o, ', ' ORDER BY o) INTO found FROM _own_additions(p_register) AS o;
    IF found IS NOT NULL THEN
        PERFORM _fail(
            'TS063', format('register %s: its tables have what no register has: %s', p_register.name, found),
            'An exchange of tables would lose it. Drop it, rebuild the register, and make it again.'
        );
    END IF;
END
$$;
COMMENT ON FUNCTION _check_replaceable(_registers, _rebuilds) IS 'Fails when the tables of a register cannot be exchanged for those of its shadow.';

CREATE OR REPLACE FUNCTION _own_additions(p_register _registers) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    WITH tables AS (
        SELECT t::regclass AS oid FROM _tables_of(p_register.name) AS t
    )
    SELECT format('trigger %s of %s', g.tgname, g.tgrelid::regclass) FROM pg_trigger AS g INNER JOIN tables AS t ON g.tgrelid = t.oid
    WHERE NOT g.tgisinternal AND g.tgname NOT IN ('guard', 'fold_inserted', 'fold_deleted', 'fold_at_commit')
    UNION ALL
    SELECT format('policy %s of %s', p.polname, p.polrelid::regclass) FROM pg_policy AS p INNER JOIN tables AS t ON p.polrelid = t.oid
    UNION ALL
    SELECT format('%s in publication %s', r.prrelid::regclass, u.pubname) FROM pg_publication_rel AS r
    INNER JOIN tables AS t ON r.prrelid = t.oid INNER JOIN pg_publication AS u ON r.prpubid = u.oid
    UNION ALL
    -- Ours are on these columns; a primary key is made with its table.
    SELECT format('index %s', i.indexrelid::regclass) FROM pg_index AS i INNER JOIN tables AS t ON i.indrelid = t.oid
    WHERE NOT i.indisprimary AND (
        i.indpred IS NOT NULL OR i.indexprs IS NOT NULL OR i.indisunique
        OR (SELECT string_agg(a.attname, ',' ORDER BY k.ordinality) FROM unnest(i.indkey) WITH ORDINALITY AS k (attnum, ordinality)
            INNER JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum) NOT IN ('recorder', 'dim_hash,period', 'dim_hash')
    )
$$;
COMMENT ON FUNCTION _own_additions(_registers) IS 'Triggers, policies, publications and indexes that somebody has given to a register''s tables.';

CREATE OR REPLACE FUNCTION _tables_of(p_name text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT c.oid::regclass::text FROM pg_class AS c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')
    AND c.relname = ANY (SELECT p_name || '_' || s FROM unnest(ARRAY[
        'movements', 'totals_day', 'totals_month', 'totals_year', 'balance_cache', 'balance_cache_delta', 'recorders', 'recorder_events',
        'pending_folds', 'opening', 'subtotals']) AS s)
    AND _is_our_own(c.oid)
$$;
COMMENT ON FUNCTION _tables_of(text) IS 'The tables of a register, its partitions left out.';

CREATE OR REPLACE FUNCTION _views_of(p_name text) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT c.oid::regclass::text FROM pg_class AS c
    WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'v'
    AND c.relname = ANY (SELECT p_name || '_' || s FROM unnest(ARRAY[
        'journal', 'balances', 'turnovers_day', 'turnovers_month', 'turnovers_year']) AS s)
    ORDER BY c.relname
$$;
COMMENT ON FUNCTION _views_of(text) IS 'The views of a register, in the order in which they are locked.';

CREATE OR REPLACE FUNCTION _functions_of(p_name text, p_for_readers boolean) RETURNS TABLE (signature text, name text) LANGUAGE sql STABLE AS $$
    SELECT p.oid::regprocedure::text, p.proname::text FROM pg_proc AS p
    WHERE p.pronamespace = current_schema()::regnamespace
    AND p.proname = ANY (SELECT p_name || '_' || s FROM unnest(CASE WHEN p_for_readers THEN ARRAY[
        'balance', 'balance_at', 'balance_at_instant', 'balance_by', 'movements', 'turnover', 'turnover_between', 'turnover_between_instants'
    ] ELSE ARRAY[
        'fold', 'append', 'merge_pending', 'fold_pending', 'merge_deltas', 'movements_inserted', 'movements_deleted', 'read_elements',
        'post_elements', 'unpost_recorder'
    ] END) AS s)
$$;
COMMENT ON FUNCTION _functions_of(text, boolean) IS 'The functions of a register: those that readers call, or those that writing is made of.';
