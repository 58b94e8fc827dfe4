-- The last step of a rebuild: the shadow's tables become the register's, in the transaction of whoever asks.
-- Who asks has kept batches and writers by hand out, and has seen every reader go who could not see all of the shadow: names are
-- not part of a reader's snapshot, rows are.
CREATE OR REPLACE FUNCTION _exchange_tables(p_register text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers;
    begun _rebuilds := _rebuild(p_register);
    shadow _registers;
    grants text[];
    dependents text;
BEGIN
    IF begun.mapping IS NOT NULL THEN
        PERFORM _fail(
            'TS067', format('register %s: its shadow was made with a mapping, and is a what-if', p_register),
            'Batches to come would not use the mapping. Give the what-if up: `tallystream rebuild REGISTER --discard`.'
        );
    END IF;
    PERFORM _change_registry();
    register := _register(p_register);
    shadow := _follow_high_write(register, begun);
    PERFORM _check_replaceable(register, begun);
    PERFORM _check_caught_up(begun);
    -- Views before tables, as readers come: nobody waits in a ring.
    EXECUTE 'LOCK TABLE ' || (SELECT string_agg(o, ', ') FROM (SELECT _views_of(p_register) UNION ALL SELECT _tables_of(p_register)) AS x (o))
        || ' IN ACCESS EXCLUSIVE MODE';
    grants := _grants_on(register);
    PERFORM _settle_letters(begun);
    BEGIN
        PERFORM _release_readers(register, shadow);
        PERFORM _drop_parts(register);
    EXCEPTION
        WHEN dependent_objects_still_exist THEN
            GET STACKED DIAGNOSTICS dependents = PG_EXCEPTION_DETAIL;
            PERFORM _fail(
                'TS007', format('register %s: its tables are exchanged, and something of somebody''s own depends on them', p_register),
                'Drop what the detail names, rebuild the register, and make it again. The views of a register can be built on.', dependents
            );
    END;
    PERFORM _rename_parts(begun.shadow, p_register);
    PERFORM _forget_rebuild(begun);
    DELETE FROM _registers AS r WHERE r.name = p_register;
    UPDATE _registers AS r SET name = p_register, created_at = register.created_at WHERE r.name = begun.shadow;
    register := _register(p_register);
    PERFORM _install_functions(register);
    PERFORM _grant_again(grants);
    PERFORM _grant_register(register);
    PERFORM _maintain(p_register, 'exchange');
END
$$;
COMMENT ON FUNCTION _exchange_tables(text) IS
'Puts the shadow of a register in its place: tables, declaration, dead letters; views and functions stay what they are, with their grants.';

CREATE OR REPLACE FUNCTION _rebuild(p_register text) RETURNS _rebuilds LANGUAGE plpgsql STABLE AS $$
DECLARE
    begun _rebuilds;
BEGIN
    SELECT * INTO begun FROM _rebuilds AS b WHERE b.register = p_register;
    IF NOT FOUND THEN
        PERFORM _fail(
            'TS065', format('register %s is not being rebuilt from its topic', p_register),
            'Somebody has finished that rebuild, or given it up. Begin anew: `tallystream rebuild REGISTER --from-topic`.'
        );
    END IF;
    RETURN begun;
END
$$;
COMMENT ON FUNCTION _rebuild(text) IS 'The rebuild of a register that is under way; an error when there is none.';

CREATE OR REPLACE FUNCTION _follow_high_write(p_register _registers, p_rebuild _rebuilds) RETURNS _registers LANGUAGE plpgsql AS $$
DECLARE
    shadow _registers := _register(p_rebuild.shadow);
BEGIN
    IF p_rebuild.declaration IS NULL THEN
        PERFORM _switch_high_write(shadow, p_register.high_write);
        UPDATE _registers AS r SET high_write = p_register.high_write, high_write_auto = p_register.high_write_auto
        WHERE r.name = p_rebuild.shadow;
    END IF;
    RETURN _register(p_rebuild.shadow);
END
$$;
COMMENT ON FUNCTION _follow_high_write(_registers, _rebuilds) IS 'Gives the shadow the mode of the live register, which may have changed meanwhile.';

CREATE OR REPLACE FUNCTION _check_caught_up(p_rebuild _rebuilds) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    behind text;
BEGIN
    PERFORM FROM _positions AS p WHERE p.consumer_group = p_rebuild.consumer_group AND p.retired_at IS NULL ORDER BY p.topic, p.partition FOR UPDATE;
    SELECT string_agg(format('%s[%s]: %s, and not %s', l.topic, l.partition, coalesce(s.next_offset::text, 'not read'), l.next_offset), '; ')
    INTO behind
    FROM _positions AS l
    LEFT JOIN _positions AS s ON s.topic = l.topic AND s.partition = l.partition
        AND s.consumer_group = _rebuild_group(p_rebuild.consumer_group, p_rebuild.register) AND s.retired_at IS NULL
    WHERE l.consumer_group = p_rebuild.consumer_group AND l.retired_at IS NULL
    AND (s.next_offset IS DISTINCT FROM l.next_offset OR s.topic_id <> l.topic_id) AND (s.id IS NOT NULL OR l.next_offset > 0);
    IF behind IS NOT NULL THEN
        PERFORM _fail(
            'TS066', format('register %s: its shadow is not where the stream is: %s', p_rebuild.register, behind),
            'Nothing was exchanged. Go on with the rebuild: it catches up.'
        );
    END IF;
END
$$;
COMMENT ON FUNCTION _check_caught_up(_rebuilds) IS 'Fails unless the shadow has exactly the events below the live positions, which are locked.';

CREATE OR REPLACE FUNCTION _release_readers(p_register _registers, p_shadow _registers) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    object text;
    is_alike boolean := (p_register.kind, p_register.totals_period, p_register.dimensions, p_register.resources, p_register.recorder_type)
        = (p_shadow.kind, p_shadow.totals_period, p_shadow.dimensions, p_shadow.resources, p_shadow.recorder_type);
BEGIN
    IF is_alike THEN
        -- Under the same names, over the other tables: what others have built on the views does not notice.
        PERFORM _install_views(p_shadow, _fragments(p_shadow), p_register.name);
    ELSE
        FOR object IN SELECT f.signature FROM _functions_of(p_register.name, true) AS f LOOP
            EXECUTE 'DROP FUNCTION ' || object;
        END LOOP;
        FOR object IN SELECT v FROM _views_of(p_register.name) AS v LOOP
            EXECUTE 'DROP VIEW ' || object;
        END LOOP;
    END IF;
    FOR object IN SELECT f.signature FROM _functions_of(p_shadow.name, true) AS f LOOP
        EXECUTE 'DROP FUNCTION ' || object;
    END LOOP;
    FOR object IN SELECT v FROM _views_of(p_shadow.name) AS v LOOP
        EXECUTE 'DROP VIEW ' || object;
    END LOOP;
END
$$;
COMMENT ON FUNCTION _release_readers(_registers, _registers) IS
'Takes the views of a register off its tables: onto the shadow''s where the columns are the same, else they go and are made anew.';

CREATE OR REPLACE FUNCTION _drop_parts(p_register _registers) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    signature text;
BEGIN
    EXECUTE format('DROP FUNCTION %I(jsonb, text)', p_register.name || '_read_elements');
    EXECUTE 'DROP TABLE ' || (SELECT string_agg(t, ', ') FROM _tables_of(p_register.name) AS t);
    FOR signature IN SELECT f.signature FROM _functions_of(p_register.name, false) AS f LOOP
        EXECUTE 'DROP FUNCTION ' || signature;
    END LOOP;
    EXECUTE format('DROP TYPE %I', p_register.name || '_delta');
END
$$;
COMMENT ON FUNCTION _drop_parts(_registers) IS 'Drops a register''s tables, with what writing to them is made of.';

CREATE OR REPLACE FUNCTION _rename_parts(p_from text, p_to text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    part record;
BEGIN
    FOR part IN SELECT f.signature, f.name FROM _functions_of(p_from, false) AS f LOOP
        EXECUTE format('ALTER FUNCTION %s RENAME TO %I', part.signature, p_to || substr(part.name, length(p_from) + 1));
    END LOOP;
    EXECUTE format('ALTER TYPE %I RENAME TO %I', p_from || '_delta', p_to || '_delta');
    FOR part IN
        SELECT c.conrelid::regclass AS holder, c.conname FROM pg_constraint AS c
        WHERE c.connamespace = current_schema()::regnamespace AND starts_with(c.conname, p_from || '_') AND c.contype IN ('c', 'n')
        AND c.coninhcount = 0 AND c.conrelid <> 0
        ORDER BY c.oid
    LOOP
        EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', part.holder, part.conname,
            left(p_to || substr(part.conname, length(p_from) + 1), 63));
    END LOOP;
    FOR part IN
        SELECT c.oid::regclass AS holder, c.relname AS name,
            CASE c.relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'i' THEN 'INDEX' WHEN 'I' THEN 'INDEX' ELSE 'TABLE' END AS kind
        FROM pg_class AS c
        WHERE c.relnamespace = current_schema()::regnamespace AND starts_with(c.relname, p_from || '_')
        AND c.relkind IN ('r', 'p', 'i', 'I', 'S')
        ORDER BY c.oid
    LOOP
        EXECUTE format('ALTER %s %s RENAME TO %I', part.kind, part.holder, left(p_to || substr(part.name, length(p_from) + 1), 63));
    END LOOP;
    FOR part IN
        SELECT d.objoid::regclass AS holder, quote_ident(a.attname) AS name, replace(d.description, p_from || '_', p_to || '_') AS text
        FROM pg_description AS d LEFT JOIN pg_attribute AS a ON d.objoid = a.attrelid AND d.objsubid = a.attnum AND a.attnum > 0
        WHERE d.classoid = 'pg_class'::regclass AND d.objoid IN (SELECT t::regclass FROM _tables_of(p_to) AS t)
        AND strpos(d.description, p_from) > 0
    LOOP
        EXECUTE format(
            'COMMENT ON %s IS %L', CASE WHEN part.name IS NULL THEN 'TABLE ' || part.holder ELSE format('COLUMN %s.%s', part.holder, part.name) END,
            replace(part.text, p_from, p_to));
    END LOOP;
END
$$;
COMMENT ON FUNCTION _rename_parts(text, text) IS 'Gives tables, indexes, sequences, constraints, types and functions of one register the name of another.';

CREATE OR REPLACE FUNCTION _grants_on(p_register _registers) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT _read_grants(p_register) || coalesce(array_agg(format(
        'GRANT %s%s ON TABLE %s TO %s%s', a.privilege_type, coalesce(' (' || g.column_name || ')', ''), g.holder,
        CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END,
        CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)), '{}')
    FROM (
        SELECT t AS holder, NULL AS column_name, c.relacl AS privileges, c.relowner AS owner
        FROM _tables_of(p_register.name) AS t INNER JOIN pg_class AS c ON c.oid = t::regclass
        UNION ALL
        SELECT t, quote_ident(b.attname), b.attacl, c.relowner
        FROM _tables_of(p_register.name) AS t INNER JOIN pg_class AS c ON c.oid = t::regclass INNER JOIN pg_attribute AS b ON c.oid = b.attrelid
    ) AS g
    CROSS JOIN LATERAL aclexplode(g.privileges) AS a
    WHERE a.grantee <> g.owner
$$;
COMMENT ON FUNCTION _grants_on(_registers) IS 'The statements that grant what is granted now on a register''s tables, views and read functions.';

CREATE OR REPLACE FUNCTION _grant_again(p_grants text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    statement text;
BEGIN
    -- Before anything is granted: a function that has grants looks as if it were everybody's on purpose.
    PERFORM _close_functions();
    FOREACH statement IN ARRAY p_grants LOOP
        BEGIN
            EXECUTE statement;
        EXCEPTION
            -- What it was granted on is no part of the new declaration.
            WHEN undefined_column OR undefined_table OR undefined_function OR undefined_object THEN
                NULL;
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION _grant_again(text[]) IS 'Grants again what was granted before tables were exchanged.';
