-- How a register gets more columns: what depends on them goes first and is made anew from the templates.
CREATE OR REPLACE FUNCTION _add_columns(p_register _registers, p_dimensions jsonb, p_resources jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    fragments jsonb := _fragments(p_register);
    grants text[] := _read_grants(p_register);
    statement text;
    dependents text;
BEGIN
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', p_register.name || '_movements');
    BEGIN
        PERFORM _drop_dependents(p_register);
        PERFORM _add_movement_columns(p_register, p_dimensions, p_resources);
    EXCEPTION
        WHEN dependent_objects_still_exist THEN
            GET STACKED DIAGNOSTICS dependents = PG_EXCEPTION_DETAIL;
            PERFORM _fail(
                'TS007', format('register %s: some functions and columns are made anew, and something of somebody''s own depends on them',
                    p_register.name),
                'Drop what the detail names, alter the register, and make it again. The views of a register can be built on.', dependents
            );
    END;
    PERFORM _add_derived_columns(p_register, p_dimensions, p_resources);
    EXECUTE _render('pending_table', fragments);
    PERFORM _install_functions(p_register);
    -- Before anything is granted: a function that has grants looks as if it were everybody's on purpose.
    PERFORM _close_functions();
    FOREACH statement IN ARRAY grants LOOP
        EXECUTE statement;
    END LOOP;
    EXECUTE _render('pending_triggers', fragments);
    IF p_dimensions <> '[]' THEN
        PERFORM _maintain(p_register.name, 'add dimensions');
    END IF;
END
$$;
COMMENT ON FUNCTION _add_columns(_registers, jsonb, jsonb) IS 'Adds columns to a register whose declaration has them already.';

CREATE OR REPLACE FUNCTION _drop_dependents(p_register _registers) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    columns text;
BEGIN
    -- The journal shows the key of cells, which is a column that will be another one: until then it shows nothing.
    SELECT string_agg(
        format('NULL::%s%s AS %I', format_type(a.atttypid, a.atttypmod), ' COLLATE ' || c.oid::regcollation, a.attname), ', ' ORDER BY a.attnum
    ) INTO columns
    FROM pg_attribute AS a LEFT JOIN pg_collation AS c ON a.attcollation = c.oid
    WHERE a.attrelid = to_regclass(quote_ident(p_register.name || '_journal')) AND a.attnum > 0;
    EXECUTE format('CREATE OR REPLACE VIEW %I AS SELECT %s', p_register.name || '_journal', columns);
    EXECUTE format('DROP FUNCTION IF EXISTS %I(date)', p_register.name || '_balance_at');
    EXECUTE format('DROP FUNCTION %I(date, date)', p_register.name || '_turnover_between');
    EXECUTE format('DROP TABLE %I', p_register.name || '_pending_folds');
    EXECUTE format('DROP FUNCTION %I(%I[])', p_register.name || '_fold', p_register.name || '_delta');
    EXECUTE format('DROP FUNCTION IF EXISTS %I(%I[])', p_register.name || '_append', p_register.name || '_delta');
    EXECUTE format('DROP FUNCTION %I(%I[])', p_register.name || '_merge_pending', p_register.name || '_delta');
    EXECUTE format('DROP TYPE %I', p_register.name || '_delta');
END
$$;
COMMENT ON FUNCTION _drop_dependents(_registers) IS
'Drops what holds a register''s columns in their old number. Views stay, and with them what others have built on them.';

CREATE OR REPLACE FUNCTION _add_movement_columns(p_register _registers, p_dimensions jsonb, p_resources jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    movements text := p_register.name || '_movements';
    added jsonb := _fragments(jsonb_populate_record(p_register, jsonb_build_object('dimensions', p_dimensions, 'resources', p_resources)));
BEGIN
    IF p_dimensions <> '[]' THEN
        EXECUTE format('ALTER TABLE %I DROP COLUMN dim_hash', movements);
        EXECUTE format('ALTER TABLE %I %s', movements, _add_clauses(added ->> 'dimension_columns'));
        EXECUTE format(
            'ALTER TABLE %I ADD COLUMN dim_hash bigint GENERATED ALWAYS AS (%s) STORED',
            movements, _cell_key(p_register.dimensions, '{c}'));
        EXECUTE format('CREATE INDEX ON %I (dim_hash, period)', movements);
    END IF;
    IF p_resources <> '[]' THEN
        EXECUTE format('ALTER TABLE %I %s', movements, _add_clauses(added ->> 'resource_columns')
            || coalesce(', ' || regexp_replace(added ->> 'finite_checks', '(^|, )CHECK', '\1ADD CHECK', 'g'), ''));
    END IF;
END
$$;
COMMENT ON FUNCTION _add_movement_columns(_registers, jsonb, jsonb) IS 'Adds columns to movements; the cells'' keys follow.';

CREATE OR REPLACE FUNCTION _add_derived_columns(p_register _registers, p_dimensions jsonb, p_resources jsonb) RETURNS void
LANGUAGE plpgsql AS $$
DECLARE
    added jsonb := _fragments(jsonb_populate_record(p_register, jsonb_build_object('dimensions', p_dimensions, 'resources', p_resources)));
    derived text;
BEGIN
    FOR derived IN SELECT t FROM _derived_tables(p_register) AS t LOOP
        EXECUTE format(
            'ALTER TABLE %I %s', derived,
            concat_ws(', ', _add_clauses(added ->> 'dimension_columns'), _add_clauses(
                added ->> CASE derived WHEN p_register.name || '_subtotals' THEN 'subtotal_columns' ELSE 'sum_columns' END)));
    END LOOP;
END
$$;
COMMENT ON FUNCTION _add_derived_columns(_registers, jsonb, jsonb) IS 'Adds columns to totals, balances, opening balances and pending deltas.';

CREATE OR REPLACE FUNCTION _add_clauses(p_columns text) RETURNS text LANGUAGE sql IMMUTABLE
-- Between columns stands a comma and a space; in numeric(18,3) there is no space.
RETURN 'ADD COLUMN ' || replace(p_columns, ', ', ', ADD COLUMN ');
COMMENT ON FUNCTION _add_clauses(text) IS 'A list of column definitions as the clauses of ALTER TABLE; null when there is none.';

CREATE OR REPLACE FUNCTION _derived_tables(p_register _registers) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT p_register.name || '_opening'
    UNION ALL
    SELECT p_register.name || '_totals_' || g FROM unnest(_grains(p_register)) AS g
    UNION ALL
    SELECT p_register.name || '_balance_cache' WHERE p_register.kind = 'balance'
    UNION ALL
    SELECT p_register.name || '_subtotals' WHERE _has_subtotals(p_register)
    UNION ALL
    SELECT p_register.name || '_balance_cache_delta' WHERE _has_deltas(p_register)
$$;
COMMENT ON FUNCTION _derived_tables(_registers) IS 'The tables that hold sums of a register''s movements, pending deltas among them.';
