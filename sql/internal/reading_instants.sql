-- Reading up to an instant: whole local days come from the totals, the two parts of days at the ends from the movements.
CREATE OR REPLACE FUNCTION _instants_of_movements(p_from timestamptz, p_to timestamptz) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        't.period >= to_timestamp(%s) AND t.period <= to_timestamp(%s)', _epoch(p_from), _epoch(p_to)
    )
$$;
COMMENT ON FUNCTION _instants_of_movements(timestamptz, timestamptz) IS
'The condition on a row t of the journal that it lies between two instants, both included.';

CREATE OR REPLACE FUNCTION _epoch(p_instant timestamptz) RETURNS text LANGUAGE sql STABLE
-- Microseconds survive: a double holds them until the year 2255.
RETURN quote_literal(extract(EPOCH FROM p_instant)::double precision) || '::double precision';
COMMENT ON FUNCTION _epoch(timestamptz) IS 'An instant as an expression that no session reads differently.';

CREATE OR REPLACE FUNCTION _turnover_source_at(
    p_register _registers, p_from timestamptz, p_to timestamptz, p_condition text, p_subtotals_of text
) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    first_day date := coalesce(p_from AT TIME ZONE p_register.time_zone, '-infinity')::date;
    last_day date := coalesce(p_to AT TIME ZONE p_register.time_zone, 'infinity')::date;
    starts timestamptz := coalesce(p_from, '-infinity');
    ends timestamptz := coalesce(p_to, 'infinity');
    within text;
BEGIN
    -- The days at both ends are taken from the movements even when they are whole: they are few, and it is never wrong.
    IF starts > ends THEN
        RETURN _turnover_piece(p_register, '_turnovers_year', 'false');
    END IF;
    IF EXISTS (
        SELECT 1 FROM unnest(ARRAY[first_day, last_day]) AS d WHERE isfinite(d) AND d < _detached_before(p_register.name)
    ) THEN
        PERFORM _fail(
            'TS031', format('register %s: movements before %s were detached; only whole days are known of them', p_register.name,
                _detached_before(p_register.name)),
            'Ask for days instead of instants.'
        );
    END IF;
    within := _instants_of_movements(starts, ends) || ' AND ' || p_condition;
    IF first_day = last_day THEN
        RETURN _turnover_piece(p_register, '_journal', _days_of_movements(p_register, first_day, first_day + 1) || ' AND ' || within);
    END IF;
    RETURN _turnover_source(
        p_register, CASE WHEN isfinite(first_day) THEN first_day + 1 END, CASE WHEN isfinite(last_day) THEN last_day - 1 END, p_condition,
        p_subtotals_of
    ) || CASE WHEN isfinite(first_day) THEN ' UNION ALL ' || _turnover_piece(
        p_register, '_journal', _days_of_movements(p_register, first_day, first_day + 1) || ' AND ' || within) ELSE '' END
    || CASE WHEN isfinite(last_day) THEN ' UNION ALL ' || _turnover_piece(
        p_register, '_journal', _days_of_movements(p_register, last_day, last_day + 1) || ' AND ' || within) ELSE '' END;
END
$$;
COMMENT ON FUNCTION _turnover_source_at(_registers, timestamptz, timestamptz, text, text) IS
'A statement that returns the dimensions and resources of everything between two instants, both included.';

CREATE OR REPLACE FUNCTION _read_turnover_at(
    p_register text, p_from timestamptz, p_to timestamptz, p_filter jsonb, p_group_by jsonb
) RETURNS SETOF jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    register _registers := _register(p_register);
    condition text := _filter(register, p_filter);
BEGIN
    RETURN QUERY SELECT _read_sums(
        register, _turnover_source_at(register, p_from, p_to, condition, _subtotals_to_read(register, p_filter, p_group_by)), p_filter,
        p_group_by
    );
END
$$;
COMMENT ON FUNCTION _read_turnover_at(text, timestamptz, timestamptz, jsonb, jsonb) IS
'What REGISTER_turnover_between_instants() and REGISTER_balance_at_instant() return.';
