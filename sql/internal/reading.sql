-- Reading, once for all registers. A range is covered by whole years, then months, then days, never by movements
-- (unless the register keeps no totals fine enough for its ends). Where a year or month ends nearer than it begins, it is
-- taken whole, and what is after the range is taken off again.
CREATE OR REPLACE FUNCTION _filter(p_register _registers, p_filter jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    unknown text;
    problem text;
    conditions text;
BEGIN
    IF p_filter IS NULL OR p_filter = 'null' THEN
        RETURN 'true';
    END IF;
    IF jsonb_typeof(p_filter) <> 'object' THEN
        PERFORM _fail(
            'TS011', format('register %s: dimensions must be an object, not %s', p_register.name, jsonb_typeof(p_filter)),
            'Give an object like {"warehouse": 1}.'
        );
    END IF;
    SELECT k INTO unknown FROM jsonb_object_keys(p_filter) AS k
    WHERE NOT EXISTS (SELECT 1 FROM jsonb_array_elements(p_register.dimensions) AS d WHERE d ->> 'name' = k) LIMIT 1;
    IF unknown IS NOT NULL THEN
        PERFORM _unknown_dimension(p_register, unknown);
    END IF;
    SELECT format('register %s: dimensions.%s: %s', p_register.name, d ->> 'name', _value_problem(d ->> 'type', p_filter -> (d ->> 'name')))
    INTO problem FROM jsonb_array_elements(p_register.dimensions) AS d
    WHERE p_filter ? (d ->> 'name') AND _value_problem(d ->> 'type', p_filter -> (d ->> 'name')) IS NOT NULL LIMIT 1;
    IF problem IS NOT NULL THEN
        PERFORM _fail('TS011', problem, 'Give a value of the dimension''s type, or null for cells without one.');
    END IF;
    -- Values stay in the parameter $1; only declared names and types become part of the statement.
    SELECT string_agg(
        CASE
            WHEN p_filter -> (d ->> 'name') = 'null' THEN format('t.%I IS NULL', d ->> 'name')
            ELSE format('t.%I = %s', d ->> 'name', _filter_value(d, p_register.time_zone))
        END, ' AND '
    ) INTO conditions
    FROM jsonb_array_elements(p_register.dimensions) AS d
    WHERE p_filter ? (d ->> 'name');
    IF p_filter ?& (SELECT array_agg(d ->> 'name') FROM jsonb_array_elements(p_register.dimensions) AS d) THEN
        -- Every dimension is given, so this is one cell and its key finds it.
        conditions := conditions || ' AND t.dim_hash = ' || _given_cell_key(p_register, '$1');
    END IF;
    RETURN coalesce(conditions, 'true');
END
$$;
COMMENT ON FUNCTION _filter(_registers, jsonb) IS 'A filter as a condition on t whose values are read from the parameter $1.';

CREATE OR REPLACE FUNCTION _filter_value(p_dimension jsonb, p_time_zone text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN p_dimension ->> 'type' = 'timestamptz'
        THEN format('_read_instant($1 ->> %L, %L)', p_dimension ->> 'name', p_time_zone)
    WHEN p_dimension ->> 'type' ~ '^(text|varchar)' THEN format('($1 ->> %L) COLLATE "C"', p_dimension ->> 'name')
    WHEN p_dimension ->> 'type' LIKE 'numeric%' THEN format('($1 ->> %L)::numeric', p_dimension ->> 'name')
    ELSE format('($1 ->> %L)::%s', p_dimension ->> 'name', p_dimension ->> 'type')
END;
COMMENT ON FUNCTION _filter_value(jsonb, text) IS 'The expression that reads one dimension''s value from the filter in $1.';

CREATE OR REPLACE FUNCTION _unknown_dimension(p_register _registers, p_name text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM _fail(
        'TS011', format('register %s has no dimension %s', p_register.name, p_name),
        format('Dimensions: %s.', (SELECT string_agg(d ->> 'name', ', ') FROM jsonb_array_elements(p_register.dimensions) AS d))
    );
END
$$;
COMMENT ON FUNCTION _unknown_dimension(_registers, text) IS 'Fails with the names that there are.';

CREATE OR REPLACE FUNCTION _group_columns(p_register _registers, p_group_by jsonb) RETURNS jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    unknown text;
BEGIN
    IF p_group_by IS NULL OR p_group_by = 'null' THEN
        RETURN '[]';
    END IF;
    IF jsonb_typeof(p_group_by) = 'string' THEN
        p_group_by := jsonb_build_array(p_group_by);
    END IF;
    IF jsonb_typeof(p_group_by) <> 'array' OR p_group_by @? '$[*] ? (@.type() != "string")' THEN
        PERFORM _fail(
            'TS011', format('register %s: group_by must be an array of dimension names', p_register.name),
            'Give an array like ["product"].'
        );
    END IF;
    SELECT g INTO unknown FROM jsonb_array_elements_text(p_group_by) AS g
    WHERE NOT EXISTS (SELECT 1 FROM jsonb_array_elements(p_register.dimensions) AS d WHERE d ->> 'name' = g) LIMIT 1;
    IF unknown IS NOT NULL THEN
        PERFORM _unknown_dimension(p_register, unknown);
    END IF;
    RETURN (
        SELECT coalesce(jsonb_agg(d.value ORDER BY d.ordinality), '[]')
        FROM jsonb_array_elements(p_register.dimensions) WITH ORDINALITY AS d
        WHERE p_group_by ? (d.value ->> 'name')
    );
END
$$;
COMMENT ON FUNCTION _group_columns(_registers, jsonb) IS 'The declared dimensions among group_by, in the register''s order.';

CREATE OR REPLACE FUNCTION _cover(p_grains text[], p_from date, p_to date)
RETURNS TABLE (grain text, starts date, ends date, sign text) LANGUAGE plpgsql IMMUTABLE AS $$
DECLARE
    coarse text := p_grains[cardinality(p_grains)];
    finer text[] := p_grains[1:cardinality(p_grains) - 1];
    first_whole date;
    last_whole date;
    next_whole date;
BEGIN
    -- [p_from, p_to) in the coarsest grain as far as whole buckets go; what is left at both ends in finer ones.
    IF p_from >= p_to THEN
        RETURN;
    END IF;
    IF coarse IS NULL THEN
        RETURN QUERY SELECT 'movement', p_from, p_to, '';
        RETURN;
    END IF;
    IF coarse = 'day' THEN
        RETURN QUERY SELECT coarse, p_from, p_to, '';
        RETURN;
    END IF;
    first_whole := date_trunc(coarse, p_from::timestamp)::date;
    IF first_whole < p_from THEN
        first_whole := (first_whole + ('1 ' || coarse)::interval)::date;
    END IF;
    last_whole := date_trunc(coarse, p_to::timestamp)::date;
    IF p_to BETWEEN '0001-01-01' AND '9999-12-31' AND first_whole <= last_whole THEN
        next_whole := (last_whole + ('1 ' || coarse)::interval)::date;
        IF next_whole - p_to < p_to - last_whole THEN
            RETURN QUERY SELECT coarse, first_whole, next_whole, '';
            RETURN QUERY SELECT * FROM _cover(finer, p_from, first_whole);
            RETURN QUERY SELECT c.grain, c.starts, c.ends, CASE c.sign WHEN '-' THEN '' ELSE '-' END FROM _cover(finer, p_to, next_whole) AS c;
            RETURN;
        END IF;
    END IF;
    IF first_whole < last_whole THEN
        RETURN QUERY SELECT coarse, first_whole, last_whole, '';
        RETURN QUERY SELECT * FROM _cover(finer, p_from, first_whole);
        RETURN QUERY SELECT * FROM _cover(finer, last_whole, p_to);
    ELSE
        RETURN QUERY SELECT * FROM _cover(finer, p_from, p_to);
    END IF;
END
$$;
COMMENT ON FUNCTION _cover(text[], date, date) IS
'Splits the days from p_from to before p_to into ranges of the coarsest totals that fit; those of the sign - are to be taken off.';

CREATE OR REPLACE FUNCTION _instant(p_day date, p_time_zone text) RETURNS text LANGUAGE sql STABLE
RETURN format('(%L::date::timestamp AT TIME ZONE %L)', p_day, p_time_zone);
COMMENT ON FUNCTION _instant(date, text) IS
'The expression of a local midnight. Not the instant as text: in some styles that is read as another one.';

CREATE OR REPLACE FUNCTION _deltas_source(p_register _registers, p_grain text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('(SELECT d.*, %s AS period FROM %I AS d)', _bucket(p_grain), p_register.name || '_balance_cache_delta')
$$;
COMMENT ON FUNCTION _deltas_source(_registers, text) IS 'What to read for the pending deltas of a register as if they were totals.';

CREATE OR REPLACE FUNCTION _piece_sources(p_register _registers, p_source text) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    grain text := substring(p_source FROM '^_turnovers_(.*)$');
BEGIN
    IF NOT _has_deltas(p_register) OR (grain IS NULL AND p_source <> '_balances') THEN
        RETURN NEXT quote_ident(p_register.name || p_source);
        RETURN;
    END IF;
    -- The view adds up the rows of each cell; whoever asks here adds up anyway, and need not do it twice.
    RETURN NEXT quote_ident(_derived_table(p_register, coalesce(grain, 'balance')));
    RETURN NEXT _deltas_source(p_register, coalesce(grain, 'day'));
END
$$;
COMMENT ON FUNCTION _piece_sources(_registers, text) IS
'What to read in place of one view of a register: the view, or what it is made of where there may be pending deltas.';

CREATE OR REPLACE FUNCTION _piece(p_register _registers, p_from text, p_condition text, p_sign text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        'SELECT %s, %s FROM %s AS t WHERE %s', _column_list(p_register.dimensions, 't.{c}'),
        -- The least bigint has no opposite.
        _column_list(p_register.resources, CASE p_sign WHEN '-' THEN '-t.{c}::numeric AS {c}' ELSE 't.{c}{exact} AS {c}' END),
        p_from, p_condition
    )
$$;
COMMENT ON FUNCTION _piece(_registers, text, text, text) IS
'A statement that returns the dimensions and resources of some rows of a table, a view or a query, or their opposites.';

CREATE OR REPLACE FUNCTION _turnover_piece(p_register _registers, p_source text, p_condition text, p_sign text DEFAULT '') RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT string_agg(_piece(p_register, s.source, p_condition, p_sign), ' UNION ALL ')
    FROM _piece_sources(p_register, p_source) AS s (source)
$$;
COMMENT ON FUNCTION _turnover_piece(_registers, text, text, text) IS
'A statement that returns the dimensions and resources of some rows of one view, or their opposites.';

CREATE OR REPLACE FUNCTION _cells_that_match(p_register _registers, p_condition text) RETURNS text LANGUAGE plpgsql STABLE AS $$
BEGIN
    -- A cell has a balance if it has totals, unless its deltas are pending; one that is given whole has its key in the condition.
    IF p_register.kind <> 'balance' OR _has_deltas(p_register) OR p_condition IN ('true', 'false') OR strpos(p_condition, 't.dim_hash') > 0 THEN
        RETURN NULL;
    END IF;
    RETURN format(
        'WITH _cells AS MATERIALIZED (SELECT t.dim_hash FROM %I AS t WHERE %s) ', p_register.name || '_balance_cache', p_condition);
END
$$;
COMMENT ON FUNCTION _cells_that_match(_registers, text) IS
'The clause that finds, among the balances, the cells whose totals are to be read by key; null where they are not.';

CREATE OR REPLACE FUNCTION _totals_piece(
    p_register _registers, p_grain text, p_starts date, p_ends date, p_condition text, p_sign text, p_of_cells boolean
) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    source text := '_turnovers_' || p_grain;
    condition text := format('t.period >= %L::date AND t.period < %L::date AND %s', p_starts, p_ends, p_condition);
BEGIN
    IF p_of_cells AND p_grain = 'year' THEN
        RETURN _turnover_piece(p_register, source, condition || ' AND t.dim_hash IN (SELECT c.dim_hash FROM _cells AS c)', p_sign);
    ELSIF p_of_cells THEN
        -- By key, whatever the planner thinks of random pages: it would rather read all months or days that there have ever
        -- been. With 1,000 of 10,000 cells and half a month of three that takes four times as long.
        RETURN format(
            'SELECT t.* FROM _cells AS c, LATERAL (%s OFFSET 0) AS t',
            _turnover_piece(p_register, source, 't.dim_hash = c.dim_hash AND ' || condition, p_sign));
    END IF;
    RETURN _turnover_piece(p_register, source, condition, p_sign);
END
$$;
COMMENT ON FUNCTION _totals_piece(_registers, text, date, date, text, text, boolean) IS
'A statement that returns totals of one grain; of the cells that match, where these are found first.';

CREATE OR REPLACE FUNCTION _days_of_movements(p_register _registers, p_from date, p_before date) RETURNS text LANGUAGE sql STABLE AS $$
    -- The day decides; the instants only tell which partitions to read. Midnight may be a wide thing where clocks go back.
    SELECT format(
        't.day >= %1$L::date AND t.day < %2$L::date AND t.period >= %3$s AND t.period < %4$s', p_from, p_before,
        _instant(CASE WHEN p_from > '-infinity' THEN p_from - 1 ELSE p_from END, p_register.time_zone),
        _instant(CASE WHEN p_before < 'infinity' THEN p_before + 1 ELSE p_before END, p_register.time_zone)
    )
$$;
COMMENT ON FUNCTION _days_of_movements(_registers, date, date) IS 'The condition on a row t of the journal that it is of these days.';

CREATE OR REPLACE FUNCTION _turnover_source(
    p_register _registers, p_from date, p_to date, p_condition text, p_subtotals_of text DEFAULT NULL
) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    cells text := CASE WHEN p_subtotals_of IS NULL THEN _cells_that_match(p_register, p_condition) END;
    pieces text;
BEGIN
    SELECT string_agg(
        CASE
            WHEN c.grain = 'movement' THEN _turnover_piece(
                p_register, '_journal', _days_of_movements(p_register, c.starts, c.ends) || ' AND ' || p_condition, c.sign)
            || ' UNION ALL ' || _turnover_piece(
                p_register, '_opening', format('t.period >= %L::date AND t.period < %L::date AND %s', c.starts, c.ends, p_condition), c.sign)
            WHEN p_subtotals_of IS NOT NULL
                THEN _subtotals_piece(p_register, c.grain, c.starts, c.ends, p_condition, c.sign, p_subtotals_of)
            ELSE _totals_piece(p_register, c.grain, c.starts, c.ends, p_condition, c.sign, cells IS NOT NULL)
        END, ' UNION ALL '
    ) INTO pieces
    FROM _cover(
        _grains(p_register), coalesce(p_from, '-infinity'), CASE WHEN p_to < 'infinity' THEN p_to + 1 ELSE 'infinity' END
    ) AS c;
    RETURN coalesce(coalesce(cells, '') || pieces, _turnover_piece(p_register, '_turnovers_year', 'false'));
END
$$;
COMMENT ON FUNCTION _turnover_source(_registers, date, date, text, text) IS
'A statement that returns the dimensions and resources of everything between two days, both included; '
'where subtotals of a dimension are to be read, the other dimensions are null.';

CREATE OR REPLACE FUNCTION _turnover_rows(p_register text, p_from date, p_to date) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    register _registers := _register(p_register);
BEGIN
    RETURN format(
        'SELECT %1$s, %2$s FROM (%3$s) AS t GROUP BY %1$s HAVING %4$s', _column_list(register.dimensions, 't.{c}'),
        _column_list(register.resources, 'sum(t.{c})::{sum}'), _turnover_source(register, p_from, p_to, 'true'),
        _column_list(register.resources, 'sum(t.{c}) <> 0', ' OR ')
    );
END
$$;
COMMENT ON FUNCTION _turnover_rows(text, date, date) IS 'A statement that returns the turnover of every cell that has one.';

CREATE OR REPLACE FUNCTION _sums_as_json(p_register _registers, p_group jsonb) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT 'jsonb_build_object(' || string_agg(
        format(CASE part WHEN 'group' THEN '%L, t.%I' ELSE '%L, coalesce(sum(t.%I), 0)' END, name, name), ', ' ORDER BY part, ordinality
    ) || ')'
    FROM (
        SELECT 'group' AS part, g.value ->> 'name' AS name, g.ordinality
        FROM jsonb_array_elements(p_group) WITH ORDINALITY AS g
        UNION ALL
        SELECT 'sum', r.value ->> 'name', r.ordinality
        FROM jsonb_array_elements(p_register.resources) WITH ORDINALITY AS r
    ) AS parts
$$;
COMMENT ON FUNCTION _sums_as_json(_registers, jsonb) IS 'The expression of a result object: the grouped dimensions, then the sums.';

CREATE OR REPLACE FUNCTION _read_sums(p_register _registers, p_source text, p_filter jsonb, p_group_by jsonb)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    grouped jsonb := _group_columns(p_register, p_group_by);
    group_list text := _column_list(grouped, 't.{c}');
BEGIN
    RETURN QUERY EXECUTE format(
        'SELECT %s FROM (%s) AS t %s', _sums_as_json(p_register, grouped), p_source,
        CASE WHEN group_list IS NULL THEN '' ELSE format('GROUP BY %1$s HAVING %2$s ORDER BY %1$s', group_list,
            _column_list(p_register.resources, 'sum(t.{c}) <> 0', ' OR ')) END
    ) USING p_filter;
END
$$;
COMMENT ON FUNCTION _read_sums(_registers, text, jsonb, jsonb) IS
'The sums of a source as objects, one for each group that is not zero; without groups a single one.';

CREATE OR REPLACE FUNCTION _read_turnover(p_register text, p_from date, p_to date, p_filter jsonb, p_group_by jsonb)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    register _registers := _register(p_register);
    condition text := _filter(register, p_filter);
BEGIN
    RETURN QUERY SELECT _read_sums(
        register, _turnover_source(register, p_from, p_to, condition, _subtotals_to_read(register, p_filter, p_group_by)), p_filter, p_group_by
    );
END
$$;
COMMENT ON FUNCTION _read_turnover(text, date, date, jsonb, jsonb) IS 'What REGISTER_turnover() returns.';

CREATE OR REPLACE FUNCTION _read_balance(p_register text, p_filter jsonb, p_at date, p_group_by jsonb)
RETURNS SETOF jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    register _registers := _register(p_register);
    condition text := _filter(register, p_filter);
    subtotals_of text := _subtotals_to_read(register, p_filter, p_group_by);
BEGIN
    IF p_at IS NULL AND NOT coalesce(p_filter ? subtotals_of, false) THEN
        -- A cell has one balance, a value has all its years.
        subtotals_of := NULL;
    END IF;
    RETURN QUERY SELECT _read_sums(
        register, CASE
            WHEN p_at IS NULL AND subtotals_of IS NULL THEN _turnover_piece(register, '_balances', condition)
            ELSE _turnover_source(register, NULL, p_at, condition, subtotals_of)
        END, p_filter, p_group_by
    );
END
$$;
COMMENT ON FUNCTION _read_balance(text, jsonb, date, jsonb) IS 'What REGISTER_balance() and REGISTER_balance_by() return.';
