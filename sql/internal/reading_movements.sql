-- Reading movements themselves, page by page where there are many.
CREATE OR REPLACE FUNCTION _read_movements(
    p_register text, p_recorder text, p_from date, p_to date, p_filter jsonb, p_limit integer, p_after_period timestamptz, p_after_id bigint
) RETURNS SETOF jsonb LANGUAGE plpgsql STABLE AS $$
DECLARE
    register _registers := _register(p_register);
    condition text := _filter(register, p_filter);
    wanted bigint := p_limit;
    found bigint;
    starts timestamptz;
    ends timestamptz;
BEGIN
    PERFORM _check_page(p_register, p_limit, p_after_period, p_after_id);
    IF p_recorder IS NOT NULL THEN
        condition := condition || format(' AND t.recorder = $2::%s', register.recorder_type);
    END IF;
    IF p_from IS NOT NULL OR p_to IS NOT NULL THEN
        condition := condition || ' AND ' || _days_of_movements(
            register, coalesce(p_from, '-infinity'), CASE WHEN p_to < 'infinity' THEN p_to + 1 ELSE 'infinity' END);
    END IF;
    IF p_after_id IS NOT NULL THEN
        -- The first condition follows from the second; it is what leaves earlier partitions out.
        condition := condition || ' AND t.period >= $4 AND (t.period, t.id) > ($4, $5)';
    END IF;
    -- A page comes from one partition after the other: only those that it needs are sorted, not all that follow.
    FOR starts, ends IN
        SELECT b.starts, b.ends FROM _partition_bounds(p_register) AS b WHERE p_limit IS NOT NULL
        UNION ALL SELECT '-infinity', 'infinity' WHERE p_limit IS NULL
        ORDER BY 1
    LOOP
        CONTINUE WHEN ends <= p_after_period;
        RETURN QUERY EXECUTE format(
            'SELECT to_jsonb(t) FROM %I AS t WHERE %s AND t.period >= $6 AND t.period < $7 ORDER BY t.period, t.id LIMIT $3',
            p_register || '_journal', condition
        ) USING p_filter, p_recorder, wanted, p_after_period, p_after_id, starts, ends;
        GET DIAGNOSTICS found = ROW_COUNT;
        wanted := wanted - found;
        EXIT WHEN wanted <= 0;
    END LOOP;
END
$$;
COMMENT ON FUNCTION _read_movements(text, text, date, date, jsonb, integer, timestamptz, bigint) IS 'What REGISTER_movements() returns.';

CREATE OR REPLACE FUNCTION _check_page(p_register text, p_limit integer, p_after_period timestamptz, p_after_id bigint) RETURNS void
LANGUAGE plpgsql STABLE AS $$
BEGIN
    IF p_limit < 0 THEN
        PERFORM _fail('TS011', format('register %s: p_limit is %s', p_register, p_limit), 'Give the most rows that you want, or null for all.');
    END IF;
    IF (p_after_period IS NULL) <> (p_after_id IS NULL) THEN
        PERFORM _fail(
            'TS011', format('register %s: p_after_period and p_after_id belong together', p_register),
            'Give both from the last row of the page before, or neither for the first page.'
        );
    END IF;
END
$$;
COMMENT ON FUNCTION _check_page(text, integer, timestamptz, bigint) IS 'Fails unless the parameters describe a page.';
