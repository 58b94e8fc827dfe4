-- The comparison behind register_verify: what the movements say against what a derived table says.
CREATE OR REPLACE FUNCTION _verified_sums(p_register _registers) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    has_subtotals boolean := _has_subtotals(p_register);
    days text := _day_sums(p_register, NULL, CASE WHEN has_subtotals THEN p_register.dimensions ELSE '[]' END);
    sums text := _column_list(p_register.resources, 'sum(s.{c}) AS {c}');
    is_single boolean := NOT has_subtotals;
BEGIN
    -- As a rule there is one row for a cell and day; to add those up once more took a sixth of the time.
    IF is_single THEN
        EXECUTE format('SELECT NOT EXISTS (SELECT 1 FROM %I)', p_register.name || '_opening') INTO is_single;
    END IF;
    IF is_single AND _has_deltas(p_register) THEN
        EXECUTE format('SELECT NOT EXISTS (SELECT 1 FROM %I)', p_register.name || '_balance_cache_delta') INTO is_single;
    END IF;
    -- Years are made of months, and balances of years: all days for each of them took a sixth as well.
    RETURN CASE WHEN has_subtotals THEN format('days AS MATERIALIZED (%s), ', days) ELSE '' END || format(
        $statement$
        of_day AS MATERIALIZED (SELECT s.dim_hash, s.day AS period, %2$s FROM %1$s AS s%3$s),
        of_month AS MATERIALIZED (
            SELECT s.dim_hash, date_trunc('month', s.period::timestamp)::date AS period, %4$s FROM of_day AS s GROUP BY 1, 2
        ),
        of_year AS MATERIALIZED (
            SELECT s.dim_hash, date_trunc('year', s.period::timestamp)::date AS period, %4$s FROM of_month AS s GROUP BY 1, 2
        ),
        -- A cell has one balance; a constant period keeps one statement for all checks.
        of_balance AS (SELECT s.dim_hash, '-infinity'::date AS period, %4$s FROM of_year AS s GROUP BY 1)
        $statement$,
        CASE WHEN has_subtotals THEN 'days' ELSE format('(%s)', days) END,
        CASE WHEN is_single THEN _column_list(p_register.resources, 's.{c}') ELSE sums END,
        CASE WHEN is_single THEN '' ELSE ' GROUP BY 1, 2' END, sums
    );
END
$$;
COMMENT ON FUNCTION _verified_sums(_registers) IS
'What the movements say, as common table expressions: the sums per cell and day, for subtotals, and those of each check.';

CREATE OR REPLACE FUNCTION _verify_statement(p_register _registers, p_check text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        $statement$
        (WITH expected AS (
            SELECT t.*, true AS _is FROM %3$I AS t WHERE %4$s
        ), actual AS (
            SELECT t.dim_hash, %5$s AS period, %6$s, true AS _is, %7$s AS _keyed FROM %8$I AS t WHERE %4$s
        ), differences AS (
            -- Objects are made of what differs only: to compare them took a third of the time.
            SELECT
                dim_hash, nullif(period, '-infinity') AS period, CASE WHEN e._is THEN jsonb_build_object(%9$s) END AS expected,
                CASE WHEN a._is THEN jsonb_build_object(%10$s) END AS actual,
                CASE WHEN a._is IS NULL THEN 'MISSING_IN_%2$s' WHEN e._is IS NULL THEN 'ORPHAN_IN_%2$s' ELSE 'MISMATCH' END
                    AS status
            FROM expected AS e FULL JOIN actual AS a USING (dim_hash, period)
            WHERE %11$s OR NOT a._keyed
        )
        SELECT %1$L, x.dim_hash, x.period, x.expected, x.actual, x.status FROM differences AS x
        UNION ALL
        SELECT %1$L, NULL, NULL, NULL, NULL, 'OK' WHERE NOT EXISTS (SELECT 1 FROM differences))
        $statement$,
        p_check, CASE p_check WHEN 'balance' THEN 'CACHE' ELSE 'TOTALS' END, 'of_' || p_check,
        _column_list(p_register.resources, 't.{c} <> 0', ' OR '),
        CASE p_check WHEN 'balance' THEN quote_literal('-infinity') || '::date' ELSE 't.period' END,
        _column_list(p_register.resources, 't.{c}'), _is_keyed(p_register), _derived_table(p_register, p_check),
        _column_list(p_register.resources, '''{c}'', e.{c}'), _column_list(p_register.resources, '''{c}'', a.{c}'),
        _column_list(p_register.resources, 'e.{c} IS DISTINCT FROM a.{c}', ' OR ')
    )
$$;
COMMENT ON FUNCTION _verify_statement(_registers, text) IS
'The part of a verification that checks one derived table: balance, day, month or year.';
