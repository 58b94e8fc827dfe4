CREATE OR REPLACE FUNCTION _register(p_name text) RETURNS _registers LANGUAGE plpgsql STABLE AS $$
DECLARE
    found_register _registers;
BEGIN
    SELECT * INTO found_register FROM _registers AS r WHERE r.name = p_name;
    IF NOT FOUND THEN
        PERFORM _fail(
            'TS001', format('register %s does not exist', coalesce(p_name, 'null')),
            coalesce('Registers: ' || (SELECT string_agg(r.name, ', ' ORDER BY r.name) FROM register_list() AS r) || '.',
                'There is no register yet; register_create() makes one.')
        );
    END IF;
    RETURN found_register;
END
$$;
COMMENT ON FUNCTION _register(text) IS 'The declaration of a register; an error when there is none of this name.';

CREATE OR REPLACE FUNCTION _check_choice(p_register text, p_what text, p_value text, p_allowed text[]) RETURNS text
LANGUAGE plpgsql AS $$
BEGIN
    IF p_value IS NULL OR p_value <> ALL (p_allowed) THEN
        PERFORM _fail(
            'TS003', format('register %s: %s %s is not known', p_register, p_what, coalesce(p_value, 'null')),
            format('Choose one of: %s.', array_to_string(p_allowed, ', '))
        );
    END IF;
    RETURN p_value;
END
$$;
COMMENT ON FUNCTION _check_choice(text, text, text, text[]) IS 'The value, if it is one of those allowed.';

CREATE OR REPLACE FUNCTION _check_register_name(p_name text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    IF p_name IS NULL OR p_name !~ '^[a-z][a-z0-9_]*$' OR length(p_name) > 35 THEN
        PERFORM _fail(
            'TS002', format('register name %s is not allowed', coalesce(quote_literal(p_name), 'null')),
            'Names match ^[a-z][a-z0-9_]*$ and have at most 35 characters, so that names like NAME_balance_cache_delta '
            'fit in the 63 bytes of a PostgreSQL name.'
        );
    END IF;
    RETURN p_name;
END
$$;
COMMENT ON FUNCTION _check_register_name(text) IS 'The name, if a register may have it.';

CREATE OR REPLACE FUNCTION _check_declaration(p_register _registers) RETURNS _registers LANGUAGE plpgsql AS $$
DECLARE
    twice text;
BEGIN
    PERFORM _check_register_name(p_register.name);
    p_register.dimensions := _columns(p_register.dimensions, 'dimension', p_register.name);
    p_register.resources := _columns(p_register.resources, 'resource', p_register.name);
    SELECT c ->> 'name' INTO twice FROM jsonb_array_elements(p_register.dimensions || p_register.resources) AS c
    GROUP BY 1 HAVING count(*) > 1 LIMIT 1;
    IF twice IS NOT NULL THEN
        PERFORM _fail(
            'TS003', format('register %s: column %s is declared twice', p_register.name, twice),
            'Dimensions and resources are columns of the same tables: each needs a name of its own.'
        );
    END IF;
    p_register.subtotals := _check_subtotals(p_register);
    PERFORM _check_choice(p_register.name, 'kind', p_register.kind, ARRAY['balance', 'turnover']);
    PERFORM _check_choice(p_register.name, 'totals_period', p_register.totals_period, ARRAY['day', 'month', 'year']);
    PERFORM _check_choice(p_register.name, 'partition_by', p_register.partition_by, ARRAY['day', 'month', 'quarter', 'year']);
    PERFORM _check_choice(p_register.name, 'recorder_type', p_register.recorder_type, ARRAY['text', 'int', 'bigint', 'uuid']);
    IF NOT EXISTS (SELECT 1 FROM pg_timezone_names AS z WHERE z.name = p_register.time_zone) THEN
        PERFORM _fail(
            'TS003', format('register %s: time zone %s is not known', p_register.name, coalesce(p_register.time_zone, 'null')),
            'Use a name from pg_timezone_names, for example Europe/London.'
        );
    END IF;
    IF (p_register.period_min BETWEEN '0001-01-01' AND p_register.period_max AND p_register.period_max <= '9999-12-31') IS NOT TRUE THEN
        PERFORM _fail(
            'TS003', format('register %s: periods from %s to %s are not a window', p_register.name,
                coalesce(p_register.period_min::text, 'null'), coalesce(p_register.period_max::text, 'null')),
            'period_min comes first, and both lie between 0001-01-01 and 9999-12-31.'
        );
    END IF;
    RETURN p_register;
END
$$;
COMMENT ON FUNCTION _check_declaration(_registers) IS 'The declaration in canonical form; an error when it is not allowed.';

CREATE OR REPLACE FUNCTION _create_tables(p_register _registers) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    fragments jsonb := _fragments(p_register);
    grain text;
    tables text;
BEGIN
    tables := _render('tables', fragments);
    -- A register of whole numbers has nothing that could be infinite, and so no check.
    EXECUTE regexp_replace(tables, ',\s*\) PARTITION BY', ') PARTITION BY');
    EXECUTE _render('pending_table', fragments);
    FOREACH grain IN ARRAY _grains(p_register) LOOP
        EXECUTE _render('totals_table', fragments || jsonb_build_object(
            'grain', grain, 'totals', quote_ident(p_register.name || '_totals_' || grain)));
    END LOOP;
    IF p_register.kind = 'balance' THEN
        EXECUTE _render('balance_table', fragments);
    END IF;
    IF p_register.high_write THEN
        EXECUTE _render('delta_table', fragments);
    END IF;
    IF p_register.subtotals <> '[]' THEN
        EXECUTE _render('subtotals_table', fragments);
    END IF;
END
$$;
COMMENT ON FUNCTION _create_tables(_registers) IS 'Makes the tables of a new register.';

CREATE OR REPLACE FUNCTION _create_register(p_register _registers) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO _registers SELECT p_register.*;
    PERFORM _create_tables(p_register);
    PERFORM _install_functions(p_register);
    EXECUTE _render('triggers', _fragments(p_register));
    EXECUTE _render('pending_triggers', _fragments(p_register));
    PERFORM _grant_register(p_register);
END
$$;
COMMENT ON FUNCTION _create_register(_registers) IS 'Makes a register whose declaration has been checked.';

CREATE OR REPLACE FUNCTION _change_registry() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
        -- What is committed until the lock is there would be left out of sums, or dropped as if it were not.
        PERFORM _fail(
            'TS040', format('registers are not changed under %s: what batches commit meanwhile would not be seen',
                current_setting('transaction_isolation')),
            'Do it in a transaction of its own, READ COMMITTED.'
        );
    END IF;
    -- Batches hold this lock shared: none is under way while a declaration changes.
    PERFORM pg_advisory_xact_lock(_lock_key('registry'));
    UPDATE _registry_version SET version = version + 1;
END
$$;
COMMENT ON FUNCTION _change_registry() IS 'Waits for running batches and tells workers to read the declarations again.';

CREATE OR REPLACE FUNCTION _renew_registers() RETURNS void LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    register _registers;
BEGIN
    PERFORM _change_registry();
    FOR register IN SELECT * FROM _registers ORDER BY name LOOP
        PERFORM _install_functions(register);
    END LOOP;
    PERFORM _grant_schema();
END
$$;
COMMENT ON FUNCTION _renew_registers() IS 'After a migration: every register''s functions and views anew, and all grants.';
