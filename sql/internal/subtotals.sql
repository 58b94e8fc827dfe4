-- Subtotals: totals of the values of one dimension, for questions that would otherwise add up each cell that has it.
CREATE OR REPLACE FUNCTION _is_our_own(p_table regclass) RETURNS boolean LANGUAGE sql STABLE
RETURN coalesce(p_table::text NOT LIKE '%\_subtotals', false) OR EXISTS (
    SELECT 1 FROM pg_attribute AS a WHERE a.attrelid = p_table AND a.attname = '_dimension'
);
COMMENT ON FUNCTION _is_our_own(regclass) IS
'Whether a table with the name of a register''s part is that part. Subtotals come later, and somebody may have called something else so.';

CREATE OR REPLACE FUNCTION _has_subtotals(p_register _registers) RETURNS boolean LANGUAGE sql STABLE
RETURN _is_our_own(to_regclass(quote_ident(p_register.name || '_subtotals')));
COMMENT ON FUNCTION _has_subtotals(_registers) IS
'Whether there is a table of subtotals. It stays, empty, when none are kept any more: a transaction that began before then still reads it.';

CREATE OR REPLACE FUNCTION _check_subtotals(p_register _registers) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    wrong text;
BEGIN
    IF p_register.subtotals IS NULL OR p_register.subtotals = 'null' THEN
        RETURN '[]';
    END IF;
    IF jsonb_typeof(p_register.subtotals) <> 'array' OR p_register.subtotals @? '$[*] ? (@.type() != "string")' THEN
        PERFORM _fail(
            'TS003', format('register %s: subtotals must be an array of dimension names', p_register.name),
            'Give an array like ["warehouse"].'
        );
    END IF;
    SELECT s.name INTO wrong FROM jsonb_array_elements_text(p_register.subtotals) AS s (name)
    WHERE s.name <> ALL (_names(p_register.dimensions)) LIMIT 1;
    IF wrong IS NOT NULL THEN
        PERFORM _fail(
            'TS003', format('register %s: subtotals of %s, which is no dimension of it', p_register.name, wrong),
            format('Dimensions: %s.', array_to_string(_names(p_register.dimensions), ', '))
        );
    END IF;
    IF (SELECT count(*) <> count(DISTINCT s.name) FROM jsonb_array_elements_text(p_register.subtotals) AS s (name)) THEN
        PERFORM _fail(
            'TS003', format('register %s: subtotals name a dimension twice', p_register.name), 'Name each dimension once.'
        );
    END IF;
    RETURN p_register.subtotals;
END
$$;
COMMENT ON FUNCTION _check_subtotals(_registers) IS 'The dimensions of which subtotals are to be kept, if they may be.';

CREATE OR REPLACE FUNCTION _subtotals_statement(p_register _registers, p_source text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    days text;
    grains text;
BEGIN
    -- Each dimension by itself, days first: of a batch's cells there are many, of the days of a value few.
    SELECT string_agg(format(
        'SELECT text %1$L COLLATE "C" AS _dimension, e.day, %2$s, %3$s FROM %4$s AS e GROUP BY e.day, e.%1$I', s.name, (
            SELECT string_agg(
                format(CASE WHEN c.value ->> 'name' = s.name THEN 'e.%I' ELSE 'NULL::%2$s AS %1$I' END, c.value ->> 'name', c.value ->> 'type'),
                ', ' ORDER BY c.ordinality)
            FROM jsonb_array_elements(p_register.dimensions) WITH ORDINALITY AS c
        ), _column_list(p_register.resources, 'sum(e.{c})::numeric AS {c}'), p_source), ' UNION ALL ')
    INTO days
    FROM jsonb_array_elements_text(p_register.subtotals) AS s (name);
    SELECT string_agg(format(
        'SELECT d._dimension, text %1$L COLLATE "C" AS _grain, %2$s AS dim_hash, %3$s AS period, %4$s, %5$s FROM _days AS d%6$s',
        g.grain, _cell_key(p_register.dimensions, 'd.{c}'), _bucket(g.grain), _column_list(p_register.dimensions, 'd.{c}'),
        _column_list(p_register.resources, CASE g.grain WHEN 'day' THEN 'd.{c}' ELSE 'sum(d.{c}) AS {c}' END),
        CASE g.grain WHEN 'day' THEN '' ELSE ' GROUP BY d._dimension, period, ' || _column_list(p_register.dimensions, 'd.{c}') END), ' UNION ALL ')
    INTO grains
    FROM unnest(_grains(p_register)) AS g (grain);
    RETURN format('WITH _days AS MATERIALIZED (%s) %s', days, grains);
END
$$;
COMMENT ON FUNCTION _subtotals_statement(_registers, text) IS 'The statement that makes subtotals of rows that have a day, all dimensions and resources.';

CREATE OR REPLACE FUNCTION _subtotals_to_read(p_register _registers, p_filter jsonb, p_group_by jsonb) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT s.name FROM jsonb_array_elements_text(p_register.subtotals) WITH ORDINALITY AS s (name, place)
    WHERE NOT EXISTS (
        SELECT 1 FROM (
            SELECT k FROM jsonb_object_keys(CASE jsonb_typeof(p_filter) WHEN 'object' THEN p_filter ELSE '{}' END) AS k
            UNION ALL
            SELECT g ->> 'name' FROM jsonb_array_elements(_group_columns(p_register, p_group_by)) AS g
        ) AS asked (name)
        WHERE asked.name <> s.name
    )
    ORDER BY s.place LIMIT 1
$$;
COMMENT ON FUNCTION _subtotals_to_read(_registers, jsonb, jsonb) IS
'The dimension whose subtotals answer a question that names no other one; null when there are none.';

CREATE OR REPLACE FUNCTION _subtotals_piece(
    p_register _registers, p_grain text, p_starts date, p_ends date, p_condition text, p_sign text, p_dimension text
) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    condition text := format('t.period >= %L::date AND t.period < %L::date AND %s', p_starts, p_ends, p_condition);
BEGIN
    RETURN _turnover_piece(
        p_register, '_subtotals', format('t._dimension = %L AND t._grain = %L AND %s%s', p_dimension, p_grain, condition,
            -- A filter has no other dimension, and what it has not is null: as in the rows of that value.
            CASE WHEN p_condition <> 'true' THEN ' AND t.dim_hash = ' || _given_cell_key(p_register, '$1') ELSE '' END), p_sign
    ) || CASE WHEN _has_deltas(p_register) THEN ' UNION ALL ' || _piece(p_register, _deltas_source(p_register, p_grain), condition, p_sign)
    ELSE '' END;
END
$$;
COMMENT ON FUNCTION _subtotals_piece(_registers, text, date, date, text, text, text) IS
'A statement that returns subtotals of one dimension and grain, all or those of the value in the filter, and what is pending for them.';

CREATE OR REPLACE FUNCTION _change_subtotals(p_register _registers) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- Batches are waiting already. Whoever writes by hand has folded, until here, as the declaration said before.
    EXECUTE format('LOCK TABLE ONLY %I IN SHARE ROW EXCLUSIVE MODE', p_register.name || '_movements');
    IF NOT _has_subtotals(p_register) THEN
        EXECUTE _render('subtotals_table', _fragments(p_register));
    END IF;
    PERFORM _maintain(p_register.name, 'change subtotals');
END
$$;
COMMENT ON FUNCTION _change_subtotals(_registers) IS 'Makes the subtotals of a register those that its declaration has now.';

CREATE OR REPLACE FUNCTION _surplus_subtotals(p_register _registers) RETURNS text LANGUAGE sql STABLE
RETURN format(
    'DELETE FROM %I AS t WHERE t._dimension <> ALL (%L::text[])', p_register.name || '_subtotals',
    ARRAY(SELECT jsonb_array_elements_text(p_register.subtotals)));
COMMENT ON FUNCTION _surplus_subtotals(_registers) IS 'The statement that drops the subtotals which a register does not keep.';

CREATE OR REPLACE FUNCTION _subtotals_changes(p_register _registers) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
DECLARE
    subtotals text := p_register.name || '_subtotals';
    added _registers := p_register;
    present text[];
BEGIN
    RETURN NEXT _surplus_subtotals(p_register);
    EXECUTE format('SELECT coalesce(array_agg(DISTINCT t._dimension), ''{}'') FROM %I AS t', subtotals) INTO present;
    SELECT coalesce(jsonb_agg(s.name ORDER BY s.place), '[]') INTO added.subtotals
    FROM jsonb_array_elements_text(p_register.subtotals) WITH ORDINALITY AS s (name, place)
    WHERE s.name <> ALL (present);
    IF added.subtotals <> '[]' THEN
        -- Of the finest totals, which are fewer than movements; nobody folds meanwhile.
        RETURN NEXT format(
            'INSERT INTO %I (_dimension, _grain, dim_hash, period, %s, %s) %s ORDER BY 1, 2, 3, 4', subtotals,
            _column_list(added.dimensions, '{c}'), _column_list(added.resources, '{c}'),
            _subtotals_statement(
                added, format('(SELECT t.*, t.period AS day FROM %I AS t)', _derived_table(added, (_grains(added))[1]))));
    END IF;
END
$$;
COMMENT ON FUNCTION _subtotals_changes(_registers) IS 'The statements that make the subtotals of a register those that it is declared to keep, while nobody folds.';

CREATE OR REPLACE FUNCTION _subtotals_corrections(p_register _registers) RETURNS SETOF text LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF NOT _has_subtotals(p_register) THEN
        RETURN;
    END IF;
    RETURN NEXT _surplus_subtotals(p_register);
    IF p_register.subtotals = '[]' THEN
        RETURN;
    END IF;
    -- As _correction() does it: the difference that one snapshot shows is added to the row as it is then.
    RETURN NEXT format(
        $statement$
        INSERT INTO %1$I AS t (_dimension, _grain, dim_hash, period, %2$s, %3$s)
        SELECT _dimension, _grain, dim_hash, period, %2$s, %3$s
        FROM _differing_rows($query$
            SELECT _dimension::text, _grain::text, dim_hash, period, %4$s, %5$s
            FROM (%6$s) AS e FULL JOIN %1$I AS t USING (_dimension, _grain, dim_hash, period)
            WHERE %7$s OR (e.dim_hash = t.dim_hash AND (%8$s))
        $query$, %9$L, NULL) AS corrections (_dimension text COLLATE "C", _grain text COLLATE "C", dim_hash bigint, period date, %10$s, %11$s)
        ORDER BY 1, 2, 3, 4
        ON CONFLICT (_dimension, _grain, dim_hash, period) DO UPDATE SET %12$s, %13$s
        $statement$,
        p_register.name || '_subtotals', _column_list(p_register.dimensions, '{c}'), _column_list(p_register.resources, '{c}'),
        _column_list(p_register.dimensions, '(CASE WHEN e.dim_hash IS NULL THEN t.{c} ELSE e.{c} END)::{type} AS {c}'),
        _column_list(p_register.resources, 'coalesce(e.{c}, 0) - coalesce(t.{c}, 0) AS {c}'),
        _subtotals_statement(p_register, '({days})'), _column_list(p_register.resources, 'coalesce(e.{c}, 0) <> coalesce(t.{c}, 0)', ' OR '),
        _column_list(p_register.dimensions, 'e.{c} IS DISTINCT FROM t.{c}', ' OR '), p_register.name,
        _column_list(p_register.dimensions, '{c} {type}'), _column_list(p_register.resources, '{c} numeric'),
        _column_list(p_register.dimensions, '{c} = excluded.{c}'), _column_list(p_register.resources, '{c} = t.{c} + excluded.{c}')
    );
    RETURN NEXT format(
        'DELETE FROM %I AS t WHERE NOT %s AND NOT (%s)', p_register.name || '_subtotals', _is_keyed(p_register),
        _column_list(p_register.resources, 't.{c} <> 0', ' OR '));
END
$$;
COMMENT ON FUNCTION _subtotals_corrections(_registers) IS 'The statements that make the subtotals of a register what its movements say.';

CREATE OR REPLACE FUNCTION _verify_subtotals_statement(p_register _registers) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    described text := format('''dimension'', _dimension, ''value'', CASE _dimension %s END, ''grain'', _grain, ''sums'',', (
        SELECT string_agg(format('WHEN %1$L THEN to_jsonb(coalesce(e.%1$I, a.%1$I))', n), ' ') FROM unnest(_names(p_register.dimensions)) AS n
    ));
    kept text := CASE p_register.subtotals
        WHEN '[]' THEN format('SELECT * FROM %I WHERE false', p_register.name || '_subtotals')
        ELSE _subtotals_statement(p_register, 'days') END;
BEGIN
    RETURN format(
        $statement$
        (WITH differences AS (
            SELECT
                dim_hash, period,
                CASE WHEN e._is THEN jsonb_build_object(%8$s jsonb_build_object(%1$s)) END AS expected,
                CASE WHEN a._is THEN jsonb_build_object(%8$s jsonb_build_object(%2$s)) END AS actual,
                CASE WHEN a._is IS NULL THEN 'MISSING_IN_TOTALS' WHEN e._is IS NULL THEN 'ORPHAN_IN_TOTALS' ELSE 'MISMATCH' END
                    AS status
            FROM (SELECT t.*, true AS _is FROM (%3$s) AS t WHERE %4$s) AS e
            FULL JOIN (SELECT t.*, true AS _is, %5$s AS _keyed FROM %6$I AS t WHERE %4$s) AS a
                USING (_dimension, _grain, dim_hash, period)
            WHERE %7$s OR NOT a._keyed
        )
        SELECT 'subtotals', x.dim_hash, x.period, x.expected, x.actual, x.status FROM differences AS x
        UNION ALL
        SELECT 'subtotals', NULL, NULL, NULL, NULL, 'OK' WHERE NOT EXISTS (SELECT 1 FROM differences))
        $statement$,
        _column_list(p_register.resources, '''{c}'', e.{c}'), _column_list(p_register.resources, '''{c}'', a.{c}'),
        kept, _column_list(p_register.resources, 't.{c} <> 0', ' OR '), _is_keyed(p_register), p_register.name || '_subtotals',
        _column_list(p_register.resources, 'e.{c} IS DISTINCT FROM a.{c}', ' OR '), described
    );
END
$$;
COMMENT ON FUNCTION _verify_subtotals_statement(_registers) IS 'The part of a verification that checks the subtotals.';
