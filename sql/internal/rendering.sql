-- From a declaration to a register's objects: the templates of sql/register with their names filled in.
CREATE OR REPLACE FUNCTION _column_list(p_columns jsonb, p_pattern text, p_separator text DEFAULT ', ') RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT string_agg(
        replace(replace(replace(replace(p_pattern, '{c}', quote_ident(c.value ->> 'name')), '{type}', c.value ->> 'type'),
            '{sum}', _sum_type(c.value ->> 'type')),
            '{exact}', CASE WHEN c.value ->> 'type' IN ('real', 'double precision') THEN '::numeric' ELSE '' END),
        p_separator ORDER BY c.ordinality
    )
    FROM jsonb_array_elements(p_columns) WITH ORDINALITY AS c
$$;
COMMENT ON FUNCTION _column_list(jsonb, text, text) IS 'A pattern written once for each column: {c} is its name, {type} and {sum} its types, {c}{exact} what is added up.';

CREATE OR REPLACE FUNCTION _key_part(p_type text, p_value text) RETURNS text LANGUAGE sql IMMUTABLE
-- PostgreSQL folds 8 bytes to 4 before it hashes them, and leaves out a number's sign: 1 and 2^32, or 1.5 and -1.5, would meet.
RETURN CASE
    WHEN p_type = 'bigint' THEN format('int8send(%s)', p_value)
    WHEN p_type = 'timestamptz' THEN format('timestamptz_send(%s)', p_value)
    WHEN p_type LIKE 'numeric%' THEN format('%1$s, %1$s < 0', p_value)
    ELSE p_value
END;
COMMENT ON FUNCTION _key_part(text, text) IS 'What of a dimension''s value goes into the key of a cell.';

CREATE OR REPLACE FUNCTION _cell_key(p_dimensions jsonb, p_pattern text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT 'hash_record_extended(ROW(' || string_agg(
        _key_part(d.value ->> 'type', replace(p_pattern, '{c}', quote_ident(d.value ->> 'name'))), ', ' ORDER BY d.ordinality
    ) || '), 0)'
    FROM jsonb_array_elements(p_dimensions) WITH ORDINALITY AS d
$$;
COMMENT ON FUNCTION _cell_key(jsonb, text) IS 'The expression of a cell''s key; the pattern says how a dimension is written, {c} being its name.';

CREATE OR REPLACE FUNCTION _names(p_columns jsonb) RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN ARRAY(SELECT c.value ->> 'name' FROM jsonb_array_elements(p_columns) WITH ORDINALITY AS c ORDER BY c.ordinality);
COMMENT ON FUNCTION _names(jsonb) IS 'The names of columns, in order.';

CREATE OR REPLACE FUNCTION _text_array(p_names text[]) RETURNS text LANGUAGE sql IMMUTABLE
RETURN 'ARRAY[' || (SELECT string_agg(quote_literal(n), ', ') FROM unnest(p_names) AS n) || ']';
COMMENT ON FUNCTION _text_array(text[]) IS 'The expression of an array of names.';

CREATE OR REPLACE FUNCTION _element_checks(p_register _registers) RETURNS text LANGUAGE sql STABLE AS $$
    -- Beyond what a column's type refuses itself: nothing rounded, not finite, null or written so that a setting decides.
    SELECT format(
        'e.value ->> ''period'' ~ %L AND (m.period AT TIME ZONE %L)::date BETWEEN %L AND %L', _time_pattern(), p_register.time_zone,
        to_char(p_register.period_min, 'YYYY-MM-DD'), to_char(p_register.period_max, 'YYYY-MM-DD')
    ) || string_agg(
        CASE
            WHEN c.type = 'date' THEN format(' AND (e.value ->> %L ~ ''^\d{4}-\d\d-\d\d$'') IS NOT FALSE', c.name)
            WHEN c.type = 'timestamptz' THEN format(' AND (e.value ->> %L ~ %L) IS NOT FALSE', c.name, _time_pattern())
            WHEN c.type ~ '^(numeric|real|double)'
                THEN format(' AND (m.%1$I > ''-Infinity'' AND m.%1$I < ''Infinity'') IS NOT FALSE', c.name)
            ELSE ''
        END
        || CASE WHEN c.type LIKE 'numeric(%' THEN format(' AND (e.value ->> %1$L)::numeric IS NOT DISTINCT FROM m.%1$I', c.name) ELSE '' END
        || CASE WHEN c.is_resource THEN format(' AND (m.%1$I IS NOT NULL OR NOT e.value ? %1$L)', c.name) ELSE '' END, ''
    )
    FROM (
        SELECT d ->> 'name', d ->> 'type', false FROM jsonb_array_elements(p_register.dimensions) AS d
        UNION ALL
        SELECT r ->> 'name', r ->> 'type', true FROM jsonb_array_elements(p_register.resources) AS r
    ) AS c (name, type, is_resource)
$$;
COMMENT ON FUNCTION _element_checks(_registers) IS 'The condition on e and m under which an element of register_post() was read as it was meant.';

CREATE OR REPLACE FUNCTION _fragments(p_register _registers) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    d jsonb := p_register.dimensions;
    r jsonb := p_register.resources;
    name text := p_register.name;
    result jsonb;
    suffix text;
BEGIN
    result := jsonb_build_object(
        'register', name,
        'register_literal', quote_literal(name),
        'recorder_type', CASE p_register.recorder_type WHEN 'text' THEN 'text COLLATE "C"' ELSE p_register.recorder_type END,
        'recorder_parameter', p_register.recorder_type,
        'time_zone', quote_literal(p_register.time_zone),
        'dimensions', _column_list(d, '{c}'),
        'cell_key', _cell_key(d, '{c}'),
        'resources', _column_list(r, '{c}'),
        'dimension_columns', (
            SELECT string_agg(
                format('%I %s%s', c.value ->> 'name', c.value ->> 'type',
                    CASE WHEN c.value ->> 'type' ~ '^(text|varchar)' THEN ' COLLATE "C"' ELSE '' END), ', ' ORDER BY c.ordinality)
            FROM jsonb_array_elements(d) WITH ORDINALITY AS c
        ),
        'resource_columns', _column_list(r, '{c} {type} NOT NULL DEFAULT 0'),
        'sum_columns', _column_list(r, '{c} {sum} NOT NULL DEFAULT 0'),
        'subtotal_columns', _column_list(r, '{c} numeric NOT NULL DEFAULT 0')
    ) || jsonb_build_object(
        'finite_checks', (
            SELECT string_agg(
                format('CHECK (%1$I > ''-Infinity''::%2$s AND %1$I < ''Infinity''::%2$s)', c.value ->> 'name',
                    regexp_replace(c.value ->> 'type', '^numeric.*', 'numeric')), ', ' ORDER BY c.ordinality)
            FROM jsonb_array_elements(r) WITH ORDINALITY AS c
            WHERE _sum_type(c.value ->> 'type') <> 'bigint'
        ),
        'sums', _column_list(r, 'sum({c})::{sum} AS {c}'),
        'sums_of_d', _column_list(r, 'sum(d.{c})::{sum} AS {c}'),
        'sums_of_e', _column_list(r, 'sum(e.{c})::{sum} AS {c}'),
        'sums_of_n', _column_list(r, 'sum(n.{c}{exact})::{sum} AS {c}'),
        'sums_of_o', _column_list(r, 'sum(o.{c}{exact})::{sum} AS {c}'),
        'dimensions_of_d', _column_list(d, 'd.{c}'),
        'dimensions_of_e', _column_list(d, 'e.{c}'),
        'dimensions_of_n', _column_list(d, 'n.{c}'),
        'dimensions_of_m', _column_list(d, 'm.{c}'),
        'dimensions_of_o', _column_list(d, 'o.{c}'),
        'dimensions_of_t', _column_list(d, 't.{c}'),
        'dimensions_of_r', _column_list(d, 'r.{c}'),
        'given_resources_of_r', _column_list(r, 'coalesce(r.{c}, 0)'),
        'resources_of_m', _column_list(r, 'm.{c}'),
        'resources_of_t', _column_list(r, 't.{c}'),
        'dimension_result', _column_list(d, '{c} {type}'),
        'sum_result', _column_list(r, '{c} {sum}'),
        'resources_of_d', _column_list(r, 'd.{c}'),
        'negated_resources_of_d', _column_list(r, '-d.{c}'),
        'nonzero', '(' || _column_list(r, '{c} <> 0', ' OR ') || ')',
        'nonzero_of_d', '(' || _column_list(r, 'd.{c} <> 0', ' OR ') || ')',
        'nonzero_sums_of_e', '(' || _column_list(r, 'sum(e.{c}) <> 0', ' OR ') || ')',
        'nonzero_of_t', '(' || _column_list(r, 't.{c} <> 0', ' OR ') || ')',
        'delta_attributes', _column_list(d, '{c} {type}') || ', ' || _column_list(r, '{c} {sum}'),
        'required_keys', _text_array('{period}' || _names(d)),
        'known_keys', _text_array('{recorder,period}' || _names(d || r)),
        'element_checks', _element_checks(p_register),
        'sums_as_json', _sums_as_json(p_register, '[]'),
        'is_plainly_one_cell', _is_plainly_one_cell(p_register),
        'given_cell_key', _given_cell_key(p_register, '_given'),
        'is_given_cell', _is_given_cell(p_register),
        'keeps_days', (_grains(p_register))[1] = 'day'
    );
    FOREACH suffix IN ARRAY ARRAY[
        'movements', 'recorders', 'recorder_events', 'opening', 'delta', 'pending_folds', 'balance_cache', 'totals_day', 'totals_month',
        'totals_year', 'fold', 'merge_pending', 'fold_pending', 'balance', 'turnover', 'balances', 'journal', 'turnovers_day',
        'turnovers_month', 'turnovers_year', 'balance_at', 'turnover_between', 'turnover_between_instants',
        'balance_by', 'balance_at_instant', 'read_elements', 'post_elements', 'unpost_recorder', 'balance_cache_delta', 'append',
        'merge_deltas', 'subtotals'
    ] LOOP
        result := result || jsonb_build_object(suffix, quote_ident(name || '_' || suffix));
    END LOOP;
    RETURN result || jsonb_build_object(
        'inserted', quote_ident(name || '_movements_inserted'),
        'deleted', quote_ident(name || '_movements_deleted'),
        'keep', quote_ident(name || CASE WHEN p_register.high_write THEN '_append' ELSE '_fold' END),
        'movements_function', quote_ident(name || '_movements')
    );
END
$$;
COMMENT ON FUNCTION _fragments(_registers) IS 'What each {placeholder} of the templates stands for in one register.';

CREATE OR REPLACE FUNCTION _render(p_template text, p_fragments jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    body text := (SELECT t.body FROM _templates AS t WHERE t.name = p_template);
    fragment record;
BEGIN
    FOR fragment IN SELECT key, value FROM jsonb_each_text(p_fragments) LOOP
        body := replace(body, '{' || fragment.key || '}', coalesce(fragment.value, ''));
    END LOOP;
    IF body IS NULL OR body ~ '\{[a-z_]+\}' THEN
        PERFORM _fail(
            'TS090', format('template %s is missing or incomplete: %s', p_template, substring(body FROM '\{[a-z_]+\}')),
            'Run `tallystream migrate` with the version that the database belongs to.'
        );
    END IF;
    RETURN body;
END
$$;
COMMENT ON FUNCTION _render(text, jsonb) IS 'A template with every placeholder filled in; an unknown one is an error.';

CREATE OR REPLACE FUNCTION _grains(p_register _registers) RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN CASE p_register.totals_period
    WHEN 'day' THEN ARRAY['day', 'month', 'year'] WHEN 'month' THEN ARRAY['month', 'year'] ELSE ARRAY['year']
END;
COMMENT ON FUNCTION _grains(_registers) IS 'The totals that a register keeps, the finest first.';

CREATE OR REPLACE FUNCTION _bucket(p_grain text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE p_grain WHEN 'day' THEN 'd.day' ELSE format('date_trunc(%L, d.day::timestamp)::date', p_grain) END;
COMMENT ON FUNCTION _bucket(text) IS 'The expression of the period of totals that the day of a delta d belongs to.';

CREATE OR REPLACE FUNCTION _has_deltas(p_register _registers) RETURNS boolean LANGUAGE sql STABLE
RETURN to_regclass(quote_ident(p_register.name || '_balance_cache_delta')) IS NOT NULL;
COMMENT ON FUNCTION _has_deltas(_registers) IS
'Whether there is a table of pending deltas. It stays, empty, when high-write is turned off: a transaction that began before then '
'still sees totals without its deltas, and reads them together.';

CREATE OR REPLACE FUNCTION _additions(p_register _registers, p_table text) RETURNS text LANGUAGE sql STABLE AS $$
    -- The first addition proves that the row found by its key is the same cell.
    SELECT string_agg(
        CASE c.ordinality
            WHEN 1 THEN format(
                '%1$I = CASE WHEN %2$s THEN t.%1$I + excluded.%1$I ELSE _cell_collision(%3$L, t.dim_hash)::%4$s END',
                c.value ->> 'name',
                _column_list(p_register.dimensions, 't.{c} IS NOT DISTINCT FROM excluded.{c}', ' AND '), p_table,
                _sum_type(c.value ->> 'type'))
            ELSE format('%1$I = t.%1$I + excluded.%1$I', c.value ->> 'name')
        END, ', ' ORDER BY c.ordinality)
    FROM jsonb_array_elements(p_register.resources) WITH ORDINALITY AS c
$$;
COMMENT ON FUNCTION _additions(_registers, text) IS 'The SET list that adds a delta to a row of a derived table.';

CREATE OR REPLACE FUNCTION _fold_body(p_register _registers) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    fragments jsonb := _fragments(p_register);
    grain text;
    totals text;
    body text := '';
BEGIN
    FOREACH grain IN ARRAY _grains(p_register) LOOP
        totals := p_register.name || '_totals_' || grain;
        body := body || _render(CASE grain WHEN 'day' THEN 'fold_days' ELSE 'fold_totals' END, fragments || jsonb_build_object(
            'totals', quote_ident(totals),
            'bucket', _bucket(grain),
            'additions', _additions(p_register, totals)
        ));
    END LOOP;
    IF p_register.subtotals <> '[]' THEN
        -- Of groups there are few here, and their keys are slow to compare: hashed, they take 40 % of the time that sorting takes.
        body := body || '    PERFORM set_config(''enable_hashagg'', ''on'', true);' || E'\n'
            || _render('fold_subtotals', fragments || jsonb_build_object(
                'subtotals_of_deltas', _subtotals_statement(p_register, 'unnest(p_deltas)'),
                'additions', _additions(p_register, p_register.name || '_subtotals')))
            || '    PERFORM set_config(''enable_hashagg'', ''off'', true);' || E'\n';
    END IF;
    IF p_register.kind = 'balance' THEN
        body := body || _render('fold_balance', fragments || jsonb_build_object(
            'additions', _additions(p_register, p_register.name || '_balance_cache')
        ));
    END IF;
    RETURN body;
END
$$;
COMMENT ON FUNCTION _fold_body(_registers) IS 'The upserts of a register''s fold function, one for each derived table.';

CREATE OR REPLACE FUNCTION _install_functions(p_register _registers) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    fragments jsonb := _fragments(p_register) || jsonb_build_object('fold_body', _fold_body(p_register));
BEGIN
    EXECUTE _render('folding', fragments);
    IF _has_deltas(p_register) THEN
        EXECUTE _render('appending', fragments);
    END IF;
    PERFORM _install_views(p_register, fragments, p_register.name);
    EXECUTE _render('reading', fragments);
    EXECUTE _render('posting', fragments);
    IF p_register.kind = 'balance' THEN
        EXECUTE _render('reading_balance', fragments);
    END IF;
END
$$;
COMMENT ON FUNCTION _install_functions(_registers) IS 'Makes or renews the functions and views of a register; tables are left alone.';

CREATE OR REPLACE FUNCTION _install_views(p_register _registers, p_fragments jsonb, p_as text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    grain text;
    kind text := CASE WHEN _has_deltas(p_register) THEN '_view_with_deltas' ELSE '_view' END;
BEGIN
    PERFORM _install_view(p_as || '_journal', 'journal_view', p_fragments, 'journal');
    IF p_register.kind = 'balance' THEN
        PERFORM _install_view(p_as || '_balances', 'balances' || kind, p_fragments, 'balances');
    END IF;
    FOREACH grain IN ARRAY _grains(p_register) LOOP
        PERFORM _install_view(
            p_as || '_turnovers_' || grain, 'turnovers' || kind, p_fragments || jsonb_build_object(
                'grain', grain,
                'bucket', _bucket(grain),
                'totals', quote_ident(p_register.name || '_totals_' || grain)
            ), 'turnovers');
    END LOOP;
END
$$;
COMMENT ON FUNCTION _install_views(_registers, jsonb, text) IS
'Makes or renews the views of a register, under its own or another''s name: what readers, and all read functions, go through.';

CREATE OR REPLACE FUNCTION _install_view(p_view text, p_template text, p_fragments jsonb, p_key text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    columns text;
BEGIN
    EXECUTE _render(p_template, p_fragments || jsonb_build_object(p_key, quote_ident(p_view)));
EXCEPTION
    WHEN invalid_table_definition THEN
        -- The register has got columns. Those that the view has stay where they are, because other views may stand on it; new
        -- ones come last.
        EXECUTE _render(p_template, p_fragments || jsonb_build_object(p_key, '_arriving_view'));
        SELECT string_agg(quote_ident(c.attname), ', ' ORDER BY c.is_new, c.attnum) INTO columns
        FROM (
            SELECT a.attname, a.attnum, a.attrelid = '_arriving_view'::regclass AS is_new,
                row_number() OVER (PARTITION BY a.attname ORDER BY a.attrelid = '_arriving_view'::regclass) AS number
            FROM pg_attribute AS a
            WHERE a.attrelid IN (to_regclass(quote_ident(p_view)), '_arriving_view'::regclass) AND a.attnum > 0 AND NOT a.attisdropped
        ) AS c
        WHERE c.number = 1;
        EXECUTE format('CREATE OR REPLACE VIEW %I AS SELECT %s FROM (%s) AS v', p_view, columns,
            rtrim(pg_get_viewdef('_arriving_view'::regclass), ';'));
        EXECUTE format('COMMENT ON VIEW %I IS %L', p_view, obj_description('_arriving_view'::regclass, 'pg_class'));
        DROP VIEW _arriving_view;
END
$$;
COMMENT ON FUNCTION _install_view(text, text, jsonb, text) IS
'Makes or renews one view; p_key is the placeholder of its name in the template.';
