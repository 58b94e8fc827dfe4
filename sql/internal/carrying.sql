-- What a rebuild takes over from the live register because no topic has it: movements that were posted by SQL.
CREATE OR REPLACE FUNCTION _carried_columns(p_register _registers, p_shadow _registers) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('m.recorder::text::%s AS recorder, m.period, m.recorded_at, m.movement_type, ', p_shadow.recorder_type) || string_agg(
        format(
            '%s::%s AS %I',
            CASE
                WHEN p_register.dimensions || p_register.resources @> jsonb_build_array(jsonb_build_object('name', c.value -> 'name'))
                    THEN format('m.%I', c.value ->> 'name')
                WHEN c.is_resource THEN '0'
                ELSE 'NULL'
            END, c.value ->> 'type', c.value ->> 'name'), ', ' ORDER BY c.is_resource, c.ordinality)
    FROM (
        SELECT d.value, d.ordinality, false AS is_resource FROM jsonb_array_elements(p_shadow.dimensions) WITH ORDINALITY AS d
        UNION ALL
        SELECT r.value, r.ordinality, true FROM jsonb_array_elements(p_shadow.resources) WITH ORDINALITY AS r
    ) AS c
$$;
COMMENT ON FUNCTION _carried_columns(_registers, _registers) IS
'A live movement m as the shadow would hold it: columns that are gone fall away, new ones are empty.';

CREATE OR REPLACE FUNCTION _carry_movements(p_register text, p_drop boolean, OUT by_sql bigint, OUT added bigint, OUT removed bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(p_register);
    begun _rebuilds := _rebuild(p_register);
    shadow _registers := _register(begun.shadow);
    hours timestamptz[];
BEGIN
    PERFORM _see_partitions(p_register), _see_partitions(begun.shadow);
    PERFORM _check_origins(register, begun);
    EXECUTE format('SELECT count(*) FROM %I AS m WHERE m.position_id IS NULL', p_register || '_movements') INTO by_sql;
    EXECUTE _surplus_statement(register, shadow, p_drop);
    GET DIAGNOSTICS removed = ROW_COUNT;
    added := 0;
    IF by_sql > 0 AND NOT p_drop THEN
        EXECUTE format(
            'SELECT array_agg(DISTINCT date_trunc(''hour'', m.period)) FROM %I AS m WHERE m.position_id IS NULL', p_register || '_movements'
        ) INTO hours;
        PERFORM _ensure_partitions_at(begun.shadow, hours || ARRAY(SELECT h + interval '59 minutes 59.999999 seconds' FROM unnest(hours) AS h));
        EXECUTE format(
            'INSERT INTO %1$I (recorder, period, recorded_at, movement_type, %2$s, %3$s) '
            'SELECT %4$s FROM %5$I AS m WHERE m.position_id IS NULL EXCEPT ALL SELECT %6$s FROM %1$I AS m WHERE m.position_id IS NULL',
            begun.shadow || '_movements', _column_list(shadow.dimensions, '{c}'), _column_list(shadow.resources, '{c}'),
            _carried_columns(register, shadow), p_register || '_movements', _carried_columns(shadow, shadow)
        );
        GET DIAGNOSTICS added = ROW_COUNT;
    END IF;
END
$$;
COMMENT ON FUNCTION _carry_movements(text, boolean) IS
'Makes the movements by SQL in the shadow of a register those of the live one, or none; done again, it changes what has changed.';

CREATE OR REPLACE FUNCTION _surplus_statement(p_register _registers, p_shadow _registers, p_drop boolean) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        $statement$
        DELETE FROM %1$I AS m USING (
            SELECT c.id, c.recorder FROM (
                SELECT m.id, m.recorder, x.content, row_number() OVER (PARTITION BY x.content ORDER BY m.id) AS number
                FROM %1$I AS m CROSS JOIN LATERAL (SELECT (v.*)::text FROM (SELECT %2$s) AS v) AS x (content)
                WHERE m.position_id IS NULL
            ) AS c
            LEFT JOIN (
                SELECT x.content, count(*) AS wanted
                FROM %3$I AS m CROSS JOIN LATERAL (SELECT (v.*)::text FROM (SELECT %4$s) AS v) AS x (content)
                WHERE m.position_id IS NULL AND NOT %5$L::boolean
                GROUP BY x.content
            ) AS l USING (content)
            WHERE c.number > coalesce(l.wanted, 0)
        ) AS s
        WHERE m.recorder = s.recorder AND m.id = s.id
        $statement$,
        p_shadow.name || '_movements', _carried_columns(p_shadow, p_shadow), p_register.name || '_movements',
        _carried_columns(p_register, p_shadow), p_drop
    )
$$;
COMMENT ON FUNCTION _surplus_statement(_registers, _registers, boolean) IS
'The statement that removes movements by SQL from a shadow which the live register does not have.';

CREATE OR REPLACE FUNCTION _check_origins(p_register _registers, p_rebuild _rebuilds) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    origin text;
BEGIN
    EXECUTE format(
        $statement$
        SELECT format('topic %%s, group %%s%%s', p.topic, p.consumer_group, CASE WHEN p.retired_at IS NOT NULL THEN ', as it was before it was created anew' ELSE '' END) FROM (
            SELECT m.position_id FROM %I AS m WHERE m.position_id IS NOT NULL
            AND m.position_id <> ALL (ARRAY(SELECT o.id FROM _positions AS o WHERE o.consumer_group = $1 AND o.retired_at IS NULL)) LIMIT 1
        ) AS f LEFT JOIN _positions AS p ON f.position_id = p.id
        $statement$, p_register.name || '_movements'
    ) INTO origin USING p_rebuild.consumer_group;
    IF origin IS NOT NULL THEN
        PERFORM _fail(
            'TS064', format('register %s has movements of %s, which group %s does not read now', p_register.name, origin, p_rebuild.consumer_group),
            'A rebuild reads the present topics of one group. Give this rebuild up; register_rebuild_totals() and _cache() go by the movements.'
        );
    END IF;
END
$$;
COMMENT ON FUNCTION _check_origins(_registers, _rebuilds) IS 'Fails when a register has movements from topics that its rebuild does not read.';

CREATE OR REPLACE FUNCTION _settle_letters(p_rebuild _rebuilds) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- What the replay refused is refused, and what it applied is applied, whatever was thought of it before.
    INSERT INTO _dead_letters AS d (
        reason, path, detail, sqlstate, register, recorder, event_id, position_id, event_offset, event_at, event_key, event_value,
        header_names, header_values, batch_id
    )
    SELECT
        f.reason, f.path, f.detail, f.sqlstate, f.register, f.recorder, f.event_id, f.position_id, f.event_offset, f.event_at, f.event_key,
        f.event_value, f.header_names, f.header_values, f.batch_id
    FROM _rebuild_refusals AS f WHERE f.register = p_rebuild.register
    ORDER BY f.position_id, f.event_offset
    ON CONFLICT (position_id, event_offset) DO UPDATE SET
        reason = excluded.reason, path = excluded.path, detail = excluded.detail, sqlstate = excluded.sqlstate,
        batch_id = excluded.batch_id, state = CASE d.state WHEN 'dropped' THEN 'dropped' ELSE 'waiting' END,
        settled_at = CASE d.state WHEN 'dropped' THEN d.settled_at END, settled_note = CASE d.state WHEN 'dropped' THEN d.settled_note END;
    UPDATE _dead_letters AS d SET state = 'retried', settled_at = now(), settled_note = 'applied when the register was rebuilt from its topic'
    FROM _positions AS p
    WHERE d.register = p_rebuild.register AND d.state = 'waiting' AND d.position_id = p.id AND p.consumer_group = p_rebuild.consumer_group
    AND p.retired_at IS NULL AND d.event_offset < p.next_offset AND d.event_offset >= coalesce((p_rebuild.gaps ->> format('%s[%s]', p.topic, p.partition))::bigint, 0)
    AND NOT EXISTS (
        SELECT 1 FROM _rebuild_refusals AS f
        WHERE f.register = d.register AND f.position_id = d.position_id AND f.event_offset = d.event_offset
    );
END
$$;
COMMENT ON FUNCTION _settle_letters(_rebuilds) IS 'Makes the dead letters of a register those of its replay.';
