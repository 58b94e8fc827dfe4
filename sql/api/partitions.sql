-- Partitions of movements: which there are, making them ahead, and letting old ones go.
CREATE OR REPLACE FUNCTION register_partitions(p_name text) RETURNS TABLE (
    partition_name text, from_date date, before_date date, state text, movements bigint, bytes bigint
) LANGUAGE plpgsql STABLE
SECURITY DEFINER SET search_path FROM CURRENT SET datestyle = 'ISO, YMD' SET timezone = 'UTC' AS $$
DECLARE
    register _registers := _register(p_name);
BEGIN
    RETURN QUERY
    SELECT
        c.relname::text, (b.bounds[1]::timestamptz AT TIME ZONE register.time_zone)::date,
        (b.bounds[2]::timestamptz AT TIME ZONE register.time_zone)::date, 'attached',
        greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
    FROM pg_inherits AS i
    INNER JOIN pg_class AS c ON i.inhrelid = c.oid
    CROSS JOIN LATERAL regexp_match(
        pg_get_expr(c.relpartbound, c.oid), $r$FROM \('([^']+)'\) TO \('([^']+)'\)$r$
    ) AS b (bounds)
    WHERE i.inhparent = to_regclass(quote_ident(p_name || '_movements'))
    UNION ALL
    SELECT
        d.partition_name, d.from_date, d.before_date, 'detached', d.movements,
        coalesce(pg_total_relation_size(to_regclass(quote_ident(d.partition_name))), 0)
    FROM _detached_partitions AS d
    WHERE d.register = p_name
    ORDER BY 2;
END
$$;
COMMENT ON FUNCTION register_partitions(text) IS
'The partitions of a register''s movements, from_date included, before_date not. '
'The number of movements is an estimate where they are attached; bytes are 0 when a detached table was dropped.';

CREATE OR REPLACE FUNCTION register_create_partitions(p_name text, p_ahead interval DEFAULT '6 months') RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _hold_register(p_name);
    today date := now() AT TIME ZONE register.time_zone;
BEGIN
    IF p_ahead IS NULL OR p_ahead < '0' THEN
        PERFORM _fail(
            'TS006', format('register %s: p_ahead is %s', p_name, coalesce(p_ahead::text, 'null')),
            'Give an interval like 6 months, which is not negative.'
        );
    END IF;
    RETURN _ensure_partitions(p_name, ARRAY(
        SELECT d::date FROM generate_series(
            greatest(today, register.period_min)::timestamp, least(today + p_ahead, register.period_max::timestamp), '1 day'
        ) AS d
    ));
END
$$;
COMMENT ON FUNCTION register_create_partitions(text, interval) IS
'Makes the partitions from today to p_ahead from now that are missing, so that no writer has to; returns how many.';

CREATE OR REPLACE FUNCTION _detachable_partitions(p_register _registers, p_older_than interval)
RETURNS TABLE (partition_name text, from_date date, before_date date) LANGUAGE sql STABLE AS $$
    SELECT p.partition_name, p.from_date, p.before_date FROM register_partitions(p_register.name) AS p
    WHERE p.state = 'attached' AND p.before_date <= ((now() - p_older_than) AT TIME ZONE p_register.time_zone)::date
$$;
COMMENT ON FUNCTION _detachable_partitions(_registers, interval) IS 'The attached partitions that ended before an interval ago.';

CREATE OR REPLACE FUNCTION register_detach_partitions(
    p_name text, p_older_than interval DEFAULT '2 years', p_most integer DEFAULT NULL
) RETURNS TABLE (partition_name text, movements bigint) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    register _registers;
    old record;
BEGIN
    IF p_older_than IS NULL OR p_older_than < '0' OR p_most <= 0 THEN
        PERFORM _fail(
            'TS006', format('register %s: p_older_than is %s, p_most is %s', p_name, coalesce(p_older_than::text, 'null'),
                coalesce(p_most::text, 'null')),
            'Give an interval like 2 years, which is not negative: partitions of the present and the future are in use.'
        );
    END IF;
    register := _register(p_name);
    IF NOT EXISTS (SELECT 1 FROM _detachable_partitions(register, p_older_than)) THEN
        RETURN;
    END IF;
    -- Batches wait from here on: their movements must be either in the sums or in a partition that stays.
    PERFORM _change_registry();
    register := _register(p_name);
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', p_name || '_movements');
    FOR old IN
        SELECT d.partition_name, d.from_date, d.before_date, 0::bigint AS movements
        FROM _detachable_partitions(register, p_older_than) AS d ORDER BY d.from_date LIMIT p_most
    LOOP
        EXECUTE format('SELECT count(*) FROM %I', old.partition_name) INTO old.movements;
        INSERT INTO _detached_partitions (partition_name, register, from_date, before_date, movements)
        VALUES (old.partition_name, p_name, old.from_date, old.before_date, old.movements);
        PERFORM _maintain(p_name, 'open');
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', p_name || '_movements', old.partition_name);
        EXECUTE format('DROP TRIGGER guard_partition ON %I', old.partition_name);
        partition_name := old.partition_name;
        movements := old.movements;
        RETURN NEXT;
    END LOOP;
    EXECUTE _render('detached_trigger', _fragments(register));
END
$$;
COMMENT ON FUNCTION register_detach_partitions(text, interval, integer) IS
'Detaches the partitions that ended before p_older_than ago, at most p_most of them, the oldest first. Their tables stay, to be archived '
'or dropped; their sums per cell and day stay as the register''s opening balance, so balances, turnovers, verification and rebuilds are '
'as before. Movements of those periods are not accepted any more, and their recorders cannot be unposted or reposted. '
'The stream waits meanwhile: with p_most, several transactions each keep it waiting for less.';

CREATE OR REPLACE FUNCTION register_stats(p_name text) RETURNS jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(p_name);
    result jsonb;
BEGIN
    SELECT jsonb_build_object(
        'register', p_name, 'kind', register.kind,
        'movements_estimate', coalesce(sum(p.movements) FILTER (WHERE p.state = 'attached'), 0),
        'movements_bytes', coalesce(sum(p.bytes) FILTER (WHERE p.state = 'attached'), 0),
        'partitions', count(*) FILTER (WHERE p.state = 'attached'),
        'detached_partitions', count(*) FILTER (WHERE p.state = 'detached'),
        'detached_movements', coalesce(sum(p.movements) FILTER (WHERE p.state = 'detached'), 0),
        'first_date', min(p.from_date) FILTER (WHERE p.state = 'attached'),
        'before_date', max(p.before_date) FILTER (WHERE p.state = 'attached')
    ) INTO result FROM register_partitions(p_name) AS p;
    RETURN result || (
        SELECT jsonb_build_object('tables', jsonb_object_agg(
            c.relname, jsonb_build_object('rows_estimate', greatest(c.reltuples, 0)::bigint, 'bytes', pg_total_relation_size(c.oid))
        ))
        FROM pg_class AS c
        WHERE c.relnamespace = current_schema()::regnamespace AND c.relname IN (
            SELECT t FROM _derived_tables(register) AS t
            UNION ALL SELECT p_name || '_recorders' UNION ALL SELECT p_name || '_recorder_events'
        )
    ) || jsonb_build_object(
        'pending_deltas', (SELECT p.deltas FROM _pending_deltas() AS p WHERE p.register = p_name),
        'oldest_delta_at', (SELECT p.oldest_at FROM _pending_deltas() AS p WHERE p.register = p_name),
        'dead_letters_waiting', (SELECT count(*) FROM _dead_letters AS d WHERE d.register = p_name AND d.state = 'waiting'),
        'last_maintenance', (SELECT max(m.done_at) FROM _maintenance AS m WHERE m.register = p_name)
    );
END
$$;
COMMENT ON FUNCTION register_stats(text) IS
'Sizes of a register''s tables and partitions, with the planner''s estimates of their rows. Only pending deltas are counted.';
