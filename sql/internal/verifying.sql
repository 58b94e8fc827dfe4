-- The comparison behind register_verify: what the movements say against what a derived table says.
CREATE OR REPLACE FUNCTION _verify_statement(p_register _registers, p_check text) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    is_balance boolean := p_check = 'balance';
    -- A cell has one balance; joining on a constant period keeps one statement for all checks.
    expected_period text := CASE
        WHEN is_balance THEN quote_literal('-infinity') || '::date'
        ELSE format('date_trunc(%L, d.day::timestamp)::date', p_check) END;
    actual_period text := CASE WHEN is_balance THEN quote_literal('-infinity') || '::date' ELSE 't.period' END;
BEGIN
    RETURN format(
        $statement$
        (WITH expected AS (
            SELECT d.dim_hash, %3$s AS period, %4$s, true AS _is FROM days AS d GROUP BY 1, 2 HAVING %5$s
        ), actual AS (
            SELECT t.dim_hash, %6$s AS period, %7$s, true AS _is, %10$s AS _keyed FROM %8$I AS t WHERE %9$s
        ), differences AS (
            -- Objects are made of what differs only: to compare them took a third of the time.
            SELECT
                dim_hash, nullif(period, '-infinity') AS period, CASE WHEN e._is THEN jsonb_build_object(%11$s) END AS expected,
                CASE WHEN a._is THEN jsonb_build_object(%12$s) END AS actual,
                CASE WHEN a._is IS NULL THEN 'MISSING_IN_%2$s' WHEN e._is IS NULL THEN 'ORPHAN_IN_%2$s' ELSE 'MISMATCH' END
                    AS status
            FROM expected AS e FULL JOIN actual AS a USING (dim_hash, period)
            WHERE %13$s OR NOT a._keyed
        )
        SELECT %1$L, x.dim_hash, x.period, x.expected, x.actual, x.status FROM differences AS x
        UNION ALL
        SELECT %1$L, NULL, NULL, NULL, NULL, 'OK' WHERE NOT EXISTS (SELECT 1 FROM differences))
        $statement$,
        p_check, CASE WHEN is_balance THEN 'CACHE' ELSE 'TOTALS' END,
        expected_period, _column_list(p_register.resources, 'sum(d.{c}) AS {c}'),
        _column_list(p_register.resources, 'sum(d.{c}) <> 0', ' OR '),
        actual_period, _column_list(p_register.resources, 't.{c}'),
        _derived_table(p_register, p_check), _column_list(p_register.resources, 't.{c} <> 0', ' OR '), _is_keyed(p_register),
        _column_list(p_register.resources, '''{c}'', e.{c}'), _column_list(p_register.resources, '''{c}'', a.{c}'),
        _column_list(p_register.resources, 'e.{c} IS DISTINCT FROM a.{c}', ' OR ')
    );
END
$$;
COMMENT ON FUNCTION _verify_statement(_registers, text) IS
'The part of a verification that checks one derived table: balance, day, month or year.';
