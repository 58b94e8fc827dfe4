-- What a rebuild would change: the cells of the live register beside those of its shadow, by the columns that both have.
CREATE OR REPLACE FUNCTION _compare_rebuild(p_register text) RETURNS TABLE (
    grain text, period date, cell jsonb, live jsonb, rebuilt jsonb
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(p_register);
    shadow _registers := _register((_rebuild(p_register)).shadow);
    grains text[] := ARRAY(
        SELECT g.grain FROM unnest(_grains(register)) WITH ORDINALITY AS g (grain, ordinality)
        WHERE g.grain = ANY (_grains(shadow)) ORDER BY g.ordinality LIMIT 1
    );
BEGIN
    IF register.kind = 'balance' AND shadow.kind = 'balance' THEN
        grains := '{balance}' || grains;
    END IF;
    RETURN QUERY EXECUTE (
        SELECT string_agg(format(
            'SELECT %L::text, nullif(period, ''-infinity''), cell, l.sums, s.sums FROM (%s) AS l FULL JOIN (%s) AS s USING (period, cell) '
            'WHERE l.sums IS DISTINCT FROM s.sums', g, _sums_of_cells(register, shadow, g), _sums_of_cells(shadow, register, g)), ' UNION ALL ')
        FROM unnest(grains) AS g
    );
END
$$;
COMMENT ON FUNCTION _compare_rebuild(text) IS
'The balances, and the finest totals that both keep, in which a register and its shadow differ; in one snapshot.';

CREATE OR REPLACE FUNCTION _sums_of_cells(p_register _registers, p_other _registers, p_grain text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        'SELECT %1$s AS period, %2$s AS cell, %3$s AS sums FROM %4$I AS t GROUP BY 1, 2 HAVING %5$s',
        CASE p_grain WHEN 'balance' THEN '''-infinity''::date' ELSE 't.period' END,
        coalesce((
            SELECT 'jsonb_build_object(' || string_agg(format(
                '%L, t.%I%s', d.value ->> 'name', d.value ->> 'name', CASE WHEN d.value = o THEN '' ELSE '::text' END), ', ' ORDER BY d.value ->> 'name')
                || ')'
            FROM jsonb_array_elements(p_register.dimensions) WITH ORDINALITY AS d
            INNER JOIN jsonb_array_elements(p_other.dimensions) AS o ON d.value -> 'name' = o -> 'name'
        ), '''{}''::jsonb'),
        -- As numbers: 1 and 1.00 are the same sum.
        coalesce('jsonb_build_object(' || string_agg(format('%L, sum(t.%I)', c.name, c.name), ', ' ORDER BY c.name) || ')', '''{}''::jsonb'),
        p_register.name || CASE p_grain WHEN 'balance' THEN '_balances' ELSE '_turnovers_' || p_grain END,
        coalesce(string_agg(format('sum(t.%I) <> 0', c.name), ' OR '), 'false')
    )
    FROM (
        SELECT r ->> 'name' FROM jsonb_array_elements(p_register.resources) AS r
        WHERE p_other.resources @> jsonb_build_array(jsonb_build_object('name', r -> 'name'))
    ) AS c (name)
$$;
COMMENT ON FUNCTION _sums_of_cells(_registers, _registers, text) IS
'The statement that adds up a register by the dimensions and resources that another one has as well.';
