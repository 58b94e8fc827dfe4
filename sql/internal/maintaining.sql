-- Changes of derived tables that are no folding. Their guards let triggers through, so a trigger does them: an insertion
-- into _maintenance, which belongs to the owner alone, is the request and afterwards the record.
CREATE OR REPLACE FUNCTION _maintain(p_register text, p_task text, p_dim_hash bigint DEFAULT NULL) RETURNS bigint LANGUAGE sql AS $$
    INSERT INTO _maintenance (register, task, dim_hash) VALUES (p_register, p_task, p_dim_hash) RETURNING rows_changed
$$;
COMMENT ON FUNCTION _maintain(text, text, bigint) IS 'Has a task done in the derived tables of a register; returns how many rows it changed.';

CREATE OR REPLACE FUNCTION _run_maintenance() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(new.register);
    statement text;
    changed bigint;
    is_pending boolean;
BEGIN
    -- What this transaction has deleted and not folded yet would be taken off twice.
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I)', register.name || '_pending_folds') INTO is_pending;
    IF is_pending THEN
        EXECUTE format(
            'SELECT %I(%I(NULL))', register.name || CASE WHEN register.high_write THEN '_append' ELSE '_fold' END,
            register.name || '_merge_pending');
    END IF;
    -- One task at a time: a correction is the difference that its own snapshot shows, and must not be made twice.
    PERFORM pg_advisory_xact_lock(_lock_key('maintenance.' || new.register));
    FOR statement IN SELECT _maintenance_statements(register, new.task, new.dim_hash) LOOP
        EXECUTE statement;
        GET DIAGNOSTICS changed = ROW_COUNT;
        new.rows_changed := new.rows_changed + changed;
    END LOOP;
    RETURN new;
END
$$;
COMMENT ON FUNCTION _run_maintenance() IS 'Does the task that a row of _maintenance asks for.';

CREATE OR REPLACE TRIGGER run BEFORE INSERT ON _maintenance FOR EACH ROW EXECUTE FUNCTION _run_maintenance();

CREATE OR REPLACE FUNCTION _maintenance_statements(p_register _registers, p_task text, p_dim_hash bigint) RETURNS SETOF text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    CASE p_task
        WHEN 'add dimensions' THEN
            RETURN QUERY SELECT format(
                'UPDATE %I SET dim_hash = %s', t, _cell_key(p_register.dimensions, '{c}')
            ) FROM _derived_tables(p_register) AS t;
        WHEN 'rebuild totals' THEN
            RETURN QUERY SELECT s FROM unnest(_grains(p_register)) AS g, _corrections(p_register, g, NULL) AS s;
            RETURN QUERY SELECT s FROM _subtotals_corrections(p_register) AS s;
        WHEN 'change subtotals' THEN
            RETURN QUERY SELECT s FROM _subtotals_changes(p_register) AS s;
        WHEN 'rebuild cache' THEN
            IF p_register.kind = 'balance' THEN
                RETURN QUERY SELECT _corrections(p_register, 'balance', p_dim_hash);
            END IF;
        WHEN 'open' THEN
            RETURN QUERY SELECT _opening_statement(p_register, d.partition_name) FROM _detached_partitions AS d
            INNER JOIN pg_inherits AS i ON i.inhrelid = to_regclass(quote_ident(d.partition_name))
            WHERE d.register = p_register.name;
        WHEN 'exchange' THEN
            -- Nothing is left to do; that it was done is worth a row.
            RETURN;
    END CASE;
END
$$;
COMMENT ON FUNCTION _maintenance_statements(_registers, text, bigint) IS 'The statements of a task, in the order in which folding locks tables.';

CREATE OR REPLACE FUNCTION _corrections(p_register _registers, p_grain text, p_dim_hash bigint) RETURNS SETOF text
LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN NEXT _correction(p_register, p_grain, p_dim_hash);
    -- A row that came to zero may still say what cell it is of; under a key that is not that cell's it would be in the way.
    RETURN NEXT format(
        'DELETE FROM %I AS t WHERE %s AND NOT %s AND NOT (%s)', _derived_table(p_register, p_grain),
        CASE WHEN p_dim_hash IS NULL THEN 'true' ELSE format('t.dim_hash = %s', p_dim_hash) END,
        _is_keyed(p_register), _column_list(p_register.resources, 't.{c} <> 0', ' OR ')
    );
END
$$;
COMMENT ON FUNCTION _corrections(_registers, text, bigint) IS 'The statements that make one derived table right.';

CREATE OR REPLACE FUNCTION _derived_table(p_register _registers, p_grain text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN p_register.name || CASE p_grain WHEN 'balance' THEN '_balance_cache' ELSE '_totals_' || p_grain END;
COMMENT ON FUNCTION _derived_table(_registers, text) IS 'The table of a check: balance, day, month or year.';

CREATE OR REPLACE FUNCTION _is_keyed(p_register _registers) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('(t.dim_hash = %s)', _cell_key(p_register.dimensions, 't.{c}'))
$$;
COMMENT ON FUNCTION _is_keyed(_registers) IS 'The condition that a row t of a derived table stands under the key of its cell.';

CREATE OR REPLACE FUNCTION _differing_rows(p_query text, p_register text, p_dim_hash bigint) RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$
DECLARE
    register _registers := _register(p_register);
BEGIN
    RETURN QUERY EXECUTE replace(p_query, '{days}', _day_sums(register, p_dim_hash, register.dimensions));
END
$$;
COMMENT ON FUNCTION _differing_rows(text, text, bigint) IS
'Runs a query on the sums per day that is put together after its snapshot was taken. PostgreSQL plans first, and does not see rows '
'that are committed in between to a partition that is new as well; what is folded of them it sees.';

CREATE OR REPLACE FUNCTION _correction(p_register _registers, p_grain text, p_dim_hash bigint) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    is_balance boolean := p_grain = 'balance';
    period text := CASE WHEN is_balance THEN '' ELSE ', period' END;
    key text := 'dim_hash' || period;
BEGIN
    -- What is missing is added to the row as it is then. A batch that commits meanwhile adds the same to movements and to
    -- derived rows, so the difference that one snapshot shows stays the right one, and nobody has to wait.
    RETURN format(
        $statement$
        INSERT INTO %9$I AS t (%6$s, %13$s, %14$s %15$s)
        SELECT %6$s, %13$s, %14$s %16$s
        FROM _differing_rows($query$
            WITH expected AS (
                SELECT d.dim_hash%1$s, %2$s, %3$s FROM ({days}) AS d GROUP BY d.dim_hash%5$s, %2$s
            )
            SELECT %6$s, %7$s, %8$s FROM expected AS e FULL JOIN (SELECT * FROM %9$I AS t WHERE %10$s) AS t USING (%6$s)
            WHERE %11$s OR (e.dim_hash = t.dim_hash AND (%12$s))
        $query$, %21$L, %4$L) AS corrections (%20$s)
        ORDER BY %6$s
        ON CONFLICT (%6$s) DO UPDATE SET %17$s, %18$s %19$s
        $statement$,
        CASE WHEN is_balance THEN '' ELSE format(', date_trunc(%L, d.day::timestamp)::date AS period', p_grain) END,
        _column_list(p_register.dimensions, 'd.{c}'), _column_list(p_register.resources, 'sum(d.{c}) AS {c}'),
        p_dim_hash, CASE WHEN is_balance THEN '' ELSE ', 2' END,
        key, _column_list(p_register.dimensions, '(CASE WHEN e.dim_hash IS NULL THEN t.{c} ELSE e.{c} END)::{type} AS {c}'),
        _column_list(p_register.resources, '(coalesce(e.{c}, 0) - coalesce(t.{c}, 0))::{sum} AS {c}'),
        _derived_table(p_register, p_grain),
        CASE WHEN p_dim_hash IS NULL THEN 'true' ELSE format('t.dim_hash = %s', p_dim_hash) END,
        _column_list(p_register.resources, 'coalesce(e.{c}, 0) <> coalesce(t.{c}, 0)', ' OR '),
        _column_list(p_register.dimensions, 'e.{c} IS DISTINCT FROM t.{c}', ' OR '),
        _column_list(p_register.dimensions, '{c}'), _column_list(p_register.resources, '{c}'),
        CASE WHEN is_balance THEN ', last_movement_at, version' ELSE '' END, CASE WHEN is_balance THEN ', now(), 1' ELSE '' END,
        _column_list(p_register.dimensions, '{c} = excluded.{c}'), _column_list(p_register.resources, '{c} = t.{c} + excluded.{c}'),
        CASE WHEN is_balance THEN ', version = t.version + 1' ELSE '' END,
        concat_ws(
            ', ', 'dim_hash bigint', CASE WHEN NOT is_balance THEN 'period date' END,
            _column_list(p_register.dimensions, '{c} {type}'), _column_list(p_register.resources, '{c} {sum}')
        ),
        p_register.name
    );
END
$$;
COMMENT ON FUNCTION _correction(_registers, text, bigint) IS
'The statement that makes one derived table what the movements say: balance, day, month or year.';

CREATE OR REPLACE FUNCTION _day_sums(p_register _registers, p_dim_hash bigint, p_dimensions jsonb) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        'SELECT m.dim_hash, (m.period AT TIME ZONE %1$L)::date AS day%2$s, %3$s FROM (%4$s) AS m WHERE %5$s GROUP BY m.dim_hash, day%2$s '
        'UNION ALL SELECT m.dim_hash, m.period%2$s, %6$s FROM %7$I AS m WHERE %5$s',
        p_register.time_zone, d.listed,
        _column_list(p_register.resources, 'sum(m.{c}{exact})::{sum} AS {c}'), _all_movements(p_register), d.condition,
        _column_list(p_register.resources, 'm.{c}'), p_register.name || '_opening'
    ) || CASE WHEN _has_deltas(p_register) THEN format(
        ' UNION ALL SELECT m.dim_hash, m.day%s, %s FROM %I AS m WHERE %s',
        d.listed, _column_list(p_register.resources, '-m.{c}'), p_register.name || '_balance_cache_delta', d.condition
    ) ELSE '' END
    FROM (
        SELECT
            coalesce(_column_list(p_dimensions, ', m.{c}', ''), '') AS listed,
            CASE WHEN p_dim_hash IS NULL THEN 'true' ELSE format('m.dim_hash = %s', p_dim_hash) END AS condition
    ) AS d
$$;
COMMENT ON FUNCTION _day_sums(_registers, bigint, jsonb) IS
'The sums per cell and day, with these dimensions, of all movements, those in detached partitions included, less the deltas that are '
'still pending: what every derived table must agree with. While deltas are folded, both sides of that change alike.';

CREATE OR REPLACE FUNCTION _opening_statement(p_register _registers, p_partition text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        'INSERT INTO %1$I AS t (dim_hash, period, %2$s, %3$s) '
        'SELECT m.dim_hash, (m.period AT TIME ZONE %4$L)::date AS day, %5$s, %6$s FROM %7$I AS m GROUP BY m.dim_hash, day, %5$s '
        'ON CONFLICT (dim_hash, period) DO UPDATE SET %8$s',
        p_register.name || '_opening', _column_list(p_register.dimensions, '{c}'), _column_list(p_register.resources, '{c}'),
        p_register.time_zone, _column_list(p_register.dimensions, 'm.{c}'),
        _column_list(p_register.resources, 'sum(m.{c}{exact})::{sum}'), p_partition, _additions(p_register, p_register.name || '_opening')
    )
$$;
COMMENT ON FUNCTION _opening_statement(_registers, text) IS 'The statement that keeps the sums of a partition''s movements.';
