-- Partitions of movements. Their bounds are local midnights of the register's time zone.
CREATE OR REPLACE FUNCTION _lock_key(p_what text) RETURNS bigint LANGUAGE sql STABLE SET search_path FROM CURRENT
RETURN hashtextextended(format('tallystream.%s.%s', current_schema(), p_what), 0);
COMMENT ON FUNCTION _lock_key(text) IS 'The advisory lock of a thing in this schema.';

CREATE OR REPLACE FUNCTION _partition_start(p_partition_by text, p_day date) RETURNS date LANGUAGE sql IMMUTABLE
RETURN date_trunc(p_partition_by, p_day::timestamp)::date;
COMMENT ON FUNCTION _partition_start(text, date) IS 'The first day of the partition that holds a day.';

CREATE OR REPLACE FUNCTION _partition_name(p_register text, p_partition_by text, p_start date) RETURNS text
LANGUAGE sql IMMUTABLE
RETURN p_register || '_movements_' || CASE p_partition_by
    WHEN 'year' THEN to_char(p_start, 'YYYY')
    WHEN 'quarter' THEN to_char(p_start, 'YYYY"q"Q')
    WHEN 'month' THEN to_char(p_start, 'YYYY_MM')
    ELSE to_char(p_start, 'YYYY_MM_DD')
END;
COMMENT ON FUNCTION _partition_name(text, text, date) IS 'The name of the partition that starts on a day.';

CREATE OR REPLACE FUNCTION _create_partition(p_register _registers, p_start date) RETURNS void LANGUAGE plpgsql
-- The bounds are written as text: in other styles a time zone's abbreviation may name another zone when it is read.
SET datestyle = 'ISO, YMD' SET timezone = 'UTC' AS $$
DECLARE
    child text := _partition_name(p_register.name, p_register.partition_by, p_start);
    parent text := p_register.name || '_movements';
    next_start date := _next_partition_start(p_register.partition_by, p_start);
BEGIN
    -- LIKE and ATTACH lock the parent less than PARTITION OF does: batches go on meanwhile.
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING STORAGE)', child, parent);
    EXECUTE format(
        'CREATE TRIGGER guard_partition BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %I '
        'FOR EACH STATEMENT EXECUTE FUNCTION _guard_movements()', child
    );
    EXECUTE format(
        'ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', parent, child,
        _midnight(p_start, p_register.time_zone), _midnight(next_start, p_register.time_zone)
    );
END
$$;
COMMENT ON FUNCTION _create_partition(_registers, date) IS 'Creates and attaches one partition of movements.';

CREATE OR REPLACE FUNCTION _next_partition_start(p_partition_by text, p_start date) RETURNS date LANGUAGE sql IMMUTABLE
RETURN (p_start + CASE p_partition_by
    WHEN 'quarter' THEN interval '3 months' ELSE ('1 ' || p_partition_by)::interval
END)::date;
COMMENT ON FUNCTION _next_partition_start(text, date) IS 'The first day after a partition.';

CREATE OR REPLACE FUNCTION _midnight(p_day date, p_time_zone text) RETURNS timestamptz LANGUAGE sql IMMUTABLE
RETURN p_day::timestamp AT TIME ZONE p_time_zone;
COMMENT ON FUNCTION _midnight(date, text) IS
'The bound of partitions at a day. Where clocks go back over midnight, a part of the day is on the other side of it.';

CREATE OR REPLACE FUNCTION _ensure_partition(p_register _registers, p_start date) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    child text := _partition_name(p_register.name, p_register.partition_by, p_start);
BEGIN
    IF EXISTS (SELECT 1 FROM _detached_partitions AS d WHERE d.partition_name = child) THEN
        PERFORM _fail(
            'TS031', format('register %s: the partition %s was detached', p_register.name, child),
            'Movements of its periods are not accepted any more; post a correction in a later period.'
        );
    END IF;
    IF to_regclass(quote_ident(child)) IS NULL THEN
        PERFORM pg_advisory_xact_lock(_lock_key('partitions.' || p_register.name));
        -- Asked again under the lock: another session may have made it while this one waited. Asked of the catalog's table,
        -- because waiting for an advisory lock does not tell this session what to forget about names it has looked up.
        IF NOT EXISTS (
            SELECT 1 FROM pg_class AS c WHERE c.relname = child AND c.relnamespace = current_schema()::regnamespace
        ) THEN
            PERFORM _create_partition(p_register, p_start);
            RETURN true;
        END IF;
    END IF;
    IF NOT EXISTS (
        SELECT 1 FROM pg_inherits AS i
        INNER JOIN pg_class AS c ON i.inhrelid = c.oid
        WHERE c.relname = child AND i.inhparent = to_regclass(quote_ident(p_register.name || '_movements'))
    ) THEN
        PERFORM _fail(
            'TS031', format('register %s: the table %s is no partition of its movements', p_register.name, child),
            'Movements of its periods are not accepted any more. Drop or rename that table, and it is made anew, empty.'
        );
    END IF;
    RETURN false;
END
$$;
COMMENT ON FUNCTION _ensure_partition(_registers, date) IS 'Makes a partition if it is missing, and says whether it was; refuses a detached one.';

CREATE OR REPLACE FUNCTION _ensure_partitions(p_register text, p_days date[]) RETURNS integer LANGUAGE plpgsql
SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(p_register);
    outside date;
    start date;
    created integer := 0;
BEGIN
    SELECT d INTO outside FROM unnest(p_days) AS d
    WHERE d NOT BETWEEN register.period_min AND register.period_max LIMIT 1;
    IF outside IS NOT NULL THEN
        PERFORM _fail(
            'TS030', format('register %s: %s is outside the declared periods %s to %s', p_register, outside,
                register.period_min, register.period_max),
            'Correct the period, or widen period_min and period_max of the register.'
        );
    END IF;
    FOR start IN
        SELECT DISTINCT _partition_start(register.partition_by, d) AS s FROM unnest(p_days) AS d ORDER BY s
    LOOP
        created := created + _ensure_partition(register, start)::integer;
    END LOOP;
    RETURN created;
END
$$;
COMMENT ON FUNCTION _ensure_partitions(text, date[]) IS
'Creates the partitions of movements that the given days need; returns how many were missing.';

CREATE OR REPLACE FUNCTION _ensure_partitions_at(p_register text, p_instants timestamptz[]) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(p_register);
    start date;
    created integer := 0;
BEGIN
    -- By the bounds, not by the local day alone: they differ where clocks go back over midnight.
    FOR start IN
        SELECT DISTINCT
            CASE
                WHEN i.instant < _midnight(s.start, register.time_zone) THEN _partition_start(register.partition_by, s.start - 1)
                WHEN i.instant >= _midnight(n.start, register.time_zone) THEN n.start
                ELSE s.start
            END AS holder
        FROM unnest(p_instants) AS i (instant)
        CROSS JOIN LATERAL (SELECT (i.instant AT TIME ZONE register.time_zone)::date) AS d (day)
        CROSS JOIN LATERAL (SELECT _partition_start(register.partition_by, d.day)) AS s (start)
        CROSS JOIN LATERAL (SELECT _next_partition_start(register.partition_by, s.start)) AS n (start)
        WHERE d.day BETWEEN register.period_min AND register.period_max
        ORDER BY holder
    LOOP
        created := created + _ensure_partition(register, start)::integer;
    END LOOP;
    RETURN created;
END
$$;
COMMENT ON FUNCTION _ensure_partitions_at(text, timestamptz[]) IS
'Creates the partitions of movements that hold the given instants, those outside the declared periods left out; returns how many were missing.';

CREATE OR REPLACE FUNCTION _detached_before(p_register text) RETURNS date LANGUAGE sql STABLE AS $$
    SELECT max(d.before_date) FROM _detached_partitions AS d WHERE d.register = p_register
$$;
COMMENT ON FUNCTION _detached_before(text) IS 'The day before which movements may be in detached partitions; null when there are none.';

CREATE OR REPLACE FUNCTION _partition_bounds(p_register text) RETURNS TABLE (starts timestamptz, ends timestamptz)
LANGUAGE sql STABLE SET search_path FROM CURRENT SET datestyle = 'ISO, YMD' SET timezone = 'UTC' AS $$
    SELECT b.bounds[1]::timestamptz, b.bounds[2]::timestamptz
    FROM pg_inherits AS i
    INNER JOIN pg_class AS c ON i.inhrelid = c.oid
    CROSS JOIN LATERAL regexp_match(pg_get_expr(c.relpartbound, c.oid), $r$FROM \('([^']+)'\) TO \('([^']+)'\)$r$) AS b (bounds)
    WHERE i.inhparent = to_regclass(quote_ident(p_register || '_movements'))
    ORDER BY 1
$$;
COMMENT ON FUNCTION _partition_bounds(text) IS 'From when and before when the partitions of a register''s movements reach.';

CREATE OR REPLACE FUNCTION _see_partitions(p_register text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    parent regclass := quote_ident(p_register || '_movements');
    known text := format('tallystream.partitions_of_%s', parent::oid);
    there text;
BEGIN
    SELECT coalesce(hash_array_extended(array_agg(i.inhrelid ORDER BY i.inhrelid), 0)::text, '') INTO there
    FROM pg_inherits AS i WHERE i.inhparent = parent;
    IF current_setting(known, true) IS DISTINCT FROM there THEN
        BEGIN
            -- A change of the table, and be it undone, makes this session forget what it knows of it. This one waits for no lock.
            EXECUTE format('GRANT SELECT ON %s TO CURRENT_USER', parent);
            RAISE SQLSTATE 'UNDO0';
        EXCEPTION
            WHEN SQLSTATE 'UNDO0' THEN
                PERFORM set_config(known, there, false);
        END;
    END IF;
END
$$;
COMMENT ON FUNCTION _see_partitions(text) IS
'Has this session see all partitions of movements. One that looks them up at the moment in which another session attaches one may not '
'see that one until the next is attached (PostgreSQL 15 to 18): a deletion would leave its movements.';

CREATE OR REPLACE FUNCTION _announce_partitions(p_register text) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format('ALTER TABLE ONLY %I ALTER COLUMN recorder SET STATISTICS -1', (_register(p_register)).name || '_movements');
END
$$;
COMMENT ON FUNCTION _announce_partitions(text) IS
'Changes nothing, and has all sessions look the partitions of movements up again. For a transaction after the one that attached some: '
'no session that reads goes on without them.';

CREATE OR REPLACE FUNCTION _all_movements(p_register _registers) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT coalesce(string_agg(format('SELECT %s FROM %s', s.columns, i.inhrelid::regclass), ' UNION ALL ' ORDER BY i.inhrelid) FILTER (WHERE i.inhrelid > 0),
        format('SELECT %s FROM %I', s.columns, p_register.name || '_movements'))
    FROM (
        SELECT format('dim_hash, period, %s, %s', _column_list(p_register.dimensions, '{c}'), _column_list(p_register.resources, '{c}'))
    ) AS s (columns)
    LEFT JOIN pg_inherits AS i ON i.inhparent = to_regclass(quote_ident(p_register.name || '_movements'))
    GROUP BY s.columns
$$;
COMMENT ON FUNCTION _all_movements(_registers) IS
'The statement that reads the movements of the partitions that the caller''s snapshot has; asked for the table, a session may miss new ones.';
