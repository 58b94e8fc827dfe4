-- Which value is wrong, and why. Asked after something failed (or of a filter's few values), so clarity comes before speed.
CREATE OR REPLACE FUNCTION _time_pattern() RETURNS text LANGUAGE sql IMMUTABLE
RETURN '^\d{4}-\d\d-\d\d([T ]([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?( ?([Zz]|[+-]\d\d(:?\d\d)?))?)?$';
COMMENT ON FUNCTION _time_pattern() IS 'ISO 8601, so that no DateStyle reads it otherwise; without an offset it is local time.';

CREATE OR REPLACE FUNCTION _value_problem(p_type text, p_value jsonb) RETURNS text LANGUAGE plpgsql STABLE AS $$
DECLARE
    written text := p_value #>> '{}';
    exact boolean := true;
BEGIN
    IF jsonb_typeof(p_value) IN ('object', 'array') THEN
        RETURN format('must be a single value of type %s, not an %s', p_type, jsonb_typeof(p_value));
    ELSIF written IS NULL THEN
        RETURN NULL;
    ELSIF p_type = 'date' AND written !~ '^\d{4}-\d\d-\d\d$' THEN
        RETURN format('%s is not a date; write YYYY-MM-DD', p_value);
    ELSIF p_type = 'timestamptz' AND written !~ _time_pattern() THEN
        RETURN format('%s is not a time; write YYYY-MM-DDTHH:MM:SS and an offset', p_value);
    ELSIF lower(written) IN ('nan', 'infinity', '-infinity', '+infinity', 'inf', '-inf', '+inf') AND p_type !~ '^(text|varchar)' THEN
        RETURN format('%s is not a finite number', p_value);
    END IF;
    -- A record reads its columns as INSERT would: nothing is cut to length.
    EXECUTE format('SELECT %s FROM jsonb_to_record($1) AS x (v %s)',
        CASE WHEN p_type LIKE 'numeric(%' THEN 'x.v = ($1 ->> ''v'')::numeric' ELSE 'x.v IS NOT NULL' END, p_type)
    INTO exact USING jsonb_build_object('v', p_value);
    RETURN CASE WHEN NOT exact THEN format('%s has more decimals than %s', p_value, p_type) END;
EXCEPTION
    WHEN data_exception THEN
        RETURN format('%s is not a value of type %s', p_value, p_type);
END
$$;
COMMENT ON FUNCTION _value_problem(text, jsonb) IS 'Why a value cannot be one of this type; null when it can.';

CREATE OR REPLACE FUNCTION _refuse_elements(p_register text, p_data jsonb, p_recorder text) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    register _registers := _register(p_register);
    shape text := coalesce(jsonb_typeof(p_data), 'null');
    problem text := _value_problem(register.recorder_type, to_jsonb(p_recorder));
    element record;
BEGIN
    IF problem IS NOT NULL THEN
        PERFORM _fail(
            'TS014', format('register %s: p_recorder: %s', p_register, problem),
            format('The register''s recorders are of type %s.', register.recorder_type)
        );
    ELSIF shape NOT IN ('object', 'array') THEN
        PERFORM _fail(
            'TS010', format('register %s: p_data must be an object or an array of objects, not %s', p_register, shape),
            'Each object holds recorder, period, every dimension, and resources.'
        );
    END IF;
    FOR element IN
        SELECT e.value, e.ordinality - 1 AS index
        FROM jsonb_array_elements(CASE shape WHEN 'object' THEN jsonb_build_array(p_data) ELSE p_data END) WITH ORDINALITY AS e
    LOOP
        PERFORM _refuse_element(register, element.value, format('p_data[%s]', element.index), p_recorder);
    END LOOP;
END
$$;
COMMENT ON FUNCTION _refuse_elements(text, jsonb, text) IS 'Fails with the first thing that is wrong in the data of register_post().';

CREATE OR REPLACE FUNCTION _refuse_element(p_register _registers, p_element jsonb, p_path text, p_recorder text)
RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    place text := format('register %s: %s', p_register.name, p_path);
    columns jsonb := jsonb_build_array(
        jsonb_build_object('name', 'recorder', 'type', p_register.recorder_type, 'needed', p_recorder IS NULL),
        jsonb_build_object('name', 'period', 'type', 'timestamptz', 'needed', true)
    ) || (SELECT jsonb_agg(d || '{"needed": true, "nullable": true}') FROM jsonb_array_elements(p_register.dimensions) AS d)
        || p_register.resources;
    keys text := (SELECT string_agg(c ->> 'name', ', ') FROM jsonb_array_elements(columns) AS c);
    item jsonb;
    unknown text;
    problem text;
BEGIN
    IF jsonb_typeof(p_element) <> 'object' THEN
        PERFORM _fail('TS010', format('%s must be an object, not %s', place, jsonb_typeof(p_element)), format('Keys: %s.', keys));
    END IF;
    SELECT k INTO unknown FROM jsonb_object_keys(p_element) AS k
    WHERE NOT columns @> jsonb_build_array(jsonb_build_object('name', k)) LIMIT 1;
    IF unknown IS NOT NULL THEN
        PERFORM _fail('TS013', format('%s has the unknown key %s', place, unknown), format('Keys: %s.', keys));
    END IF;
    FOR item IN SELECT value FROM jsonb_array_elements(columns) LOOP
        IF p_element ? (item ->> 'name') THEN
            problem := _value_problem(item ->> 'type', p_element -> (item ->> 'name'));
            IF p_element -> (item ->> 'name') = 'null' AND NOT coalesce((item ->> 'nullable')::boolean, false) THEN
                problem := 'must not be null';
            END IF;
            IF problem IS NOT NULL THEN
                PERFORM _fail(
                    'TS014', format('%s.%s: %s', place, item ->> 'name', problem),
                    format('The column %s is of type %s; a value is stored as it is, or not at all.', item ->> 'name', item ->> 'type')
                );
            END IF;
        ELSIF (item ->> 'needed')::boolean THEN
            PERFORM _fail(
                'TS012', format('%s lacks the key %s', place, item ->> 'name'),
                'A dimension without a value is given as null; only resources may be left out, which counts as 0.'
            );
        END IF;
    END LOOP;
    PERFORM _refuse_period(p_register, place, _read_instant(p_element ->> 'period', p_register.time_zone));
    IF p_element ? 'recorder' AND p_recorder IS NOT NULL AND p_element ->> 'recorder' <> p_recorder THEN
        PERFORM _fail(
            'TS015', format('%s.recorder is %s, but %s is reposted', place, p_element -> 'recorder', p_recorder),
            'Leave recorder out of the elements of register_repost().'
        );
    END IF;
END
$$;
COMMENT ON FUNCTION _refuse_element(_registers, jsonb, text, text) IS 'Fails with the first thing that is wrong in one element.';

CREATE OR REPLACE FUNCTION _read_instant(p_text text, p_time_zone text) RETURNS timestamptz LANGUAGE sql STABLE
RETURN CASE
    WHEN p_text ~ '[T ].*([Zz]|[+-]\d\d(:?\d\d)?)$' THEN p_text::timestamptz
    ELSE p_text::timestamp AT TIME ZONE p_time_zone
END;
COMMENT ON FUNCTION _read_instant(text, text) IS 'The instant that an ISO 8601 text means; without an offset it is local time of the zone.';

CREATE OR REPLACE FUNCTION _refuse_period(p_register _registers, p_place text, p_instant timestamptz) RETURNS void
LANGUAGE plpgsql STABLE AS $$
DECLARE
    day date := p_instant AT TIME ZONE p_register.time_zone;
BEGIN
    IF day NOT BETWEEN p_register.period_min AND p_register.period_max THEN
        PERFORM _fail(
            'TS030', format('%s.period: %s is outside the declared periods %s to %s', p_place, day, p_register.period_min, p_register.period_max),
            'Correct the period, or widen period_min and period_max with register_alter().'
        );
    END IF;
END
$$;
COMMENT ON FUNCTION _refuse_period(_registers, text, timestamptz) IS 'Fails when an element''s day is outside the periods that the register declares.';
