-- The statements behind register_explain(); $1 is the recorder, $2 the most rows of a list.
CREATE OR REPLACE FUNCTION _explain_statement(p_register _registers) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        $statement$
        WITH movements AS MATERIALIZED (
            SELECT m.id, m.recorded_at, m.period, m.position_id, m.event_offset, m.batch_id, m.dim_hash,
                row_number() OVER (ORDER BY m.period, m.id) AS number, jsonb_build_object(%1$s) AS columns
            FROM %2$I AS m WHERE m.recorder = $1::%5$s
        ), state AS (
            SELECT r.*, length(r.event_digests) / 16 + CASE WHEN r.spilled THEN
                (SELECT count(*) FROM %4$I AS e WHERE e.recorder = r.recorder) ELSE 0 END AS applied
            FROM %3$I AS r WHERE r.recorder = $1::%5$s
        ), events AS (
            SELECT e.position_id, e.event_offset, max(e.batch_id) AS batch_id, sum(e.movements) AS movements
            FROM (
                SELECT m.position_id, m.event_offset, m.batch_id, 1 AS movements FROM movements AS m
                UNION ALL SELECT s.position_id, s.event_offset, s.batch_id, 0 FROM state AS s
            ) AS e
            WHERE e.position_id IS NOT NULL
            GROUP BY e.position_id, e.event_offset
        )
        SELECT jsonb_build_object(
            'revision', (SELECT s.revision FROM state AS s),
            'first_period', (SELECT s.first_period FROM state AS s),
            'last_period', (SELECT s.last_period FROM state AS s),
            'events_applied', coalesce((SELECT s.applied FROM state AS s), 0),
            'events', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'topic', p.topic, 'partition', p.partition, 'offset', e.event_offset, 'movements', e.movements,
                    'batch_id', e.batch_id, 'worker', b.worker, 'committed_at', b.committed_at
                ) ORDER BY p.topic, p.partition, e.event_offset), '[]')
                FROM events AS e
                INNER JOIN _positions AS p ON e.position_id = p.id
                LEFT JOIN _batches AS b ON e.batch_id = b.batch_id AND e.position_id = b.position_id
            ),
            'movements_by_sql', (SELECT count(*) FROM movements AS m WHERE m.position_id IS NULL),
            'movements_count', (SELECT count(*) FROM movements),
            'movements', (
                SELECT coalesce(jsonb_agg(jsonb_build_object(
                    'id', m.id, 'recorded_at', m.recorded_at, 'period', m.period, 'dim_hash', m.dim_hash, 'topic', p.topic,
                    'partition', p.partition, 'event_offset', m.event_offset, 'batch_id', m.batch_id) || m.columns ORDER BY m.number), '[]')
                FROM movements AS m LEFT JOIN _positions AS p ON m.position_id = p.id WHERE m.number <= $2
            )
        )
        $statement$,
        _column_list(p_register.dimensions || p_register.resources, '''{c}'', m.{c}'), p_register.name || '_movements',
        p_register.name || '_recorders', p_register.name || '_recorder_events', p_register.recorder_type
    )
$$;
COMMENT ON FUNCTION _explain_statement(_registers) IS 'The statement that tells what is known of a recorder, its events and its movements.';

CREATE OR REPLACE FUNCTION _explain_cells_statement(p_register _registers) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format(
        $statement$
        WITH days AS MATERIALIZED (
            SELECT m.dim_hash, (m.period AT TIME ZONE %1$L)::date AS day, %2$s, %3$s, count(*) AS movements
            FROM %4$I AS m WHERE m.recorder = $1::%5$s GROUP BY m.dim_hash, day, %2$s
        ), cells AS MATERIALIZED (
            SELECT d.dim_hash, jsonb_build_object(%6$s) AS dimensions, jsonb_build_object(%7$s) AS sums, sum(d.movements) AS movements
            FROM days AS d GROUP BY d.dim_hash, %8$s ORDER BY d.dim_hash LIMIT $2
        )
        SELECT jsonb_agg(jsonb_build_object(
            'dim_hash', c.dim_hash, 'dimensions', c.dimensions, 'movements', c.movements, 'contributes', c.sums) %9$s ORDER BY c.dim_hash)
        FROM cells AS c
        $statement$,
        p_register.time_zone, _column_list(p_register.dimensions, 'm.{c}'),
        _column_list(p_register.resources, 'sum(m.{c}{exact})::{sum} AS {c}'), p_register.name || '_movements', p_register.recorder_type,
        _column_list(p_register.dimensions, '''{c}'', d.{c}'), _column_list(p_register.resources, '''{c}'', sum(d.{c})'),
        _column_list(p_register.dimensions, 'd.{c}'),
        CASE p_register.kind WHEN 'balance' THEN format(
            ' || jsonb_build_object(''balance'', coalesce((SELECT jsonb_build_object(%s) FROM %I AS b WHERE b.dim_hash = c.dim_hash), %s))',
            _column_list(p_register.resources, '''{c}'', b.{c}'), p_register.name || '_balances',
            format('jsonb_build_object(%s)', _column_list(p_register.resources, '''{c}'', 0'))) ELSE '' END
        || (SELECT string_agg(format(
            ' || jsonb_build_object(%L, (SELECT jsonb_agg(jsonb_build_object(''period'', x.period, ''turnover'', jsonb_build_object(%s)) '
            'ORDER BY x.period) FROM (SELECT DISTINCT %s AS period FROM days AS d WHERE d.dim_hash = c.dim_hash) AS x '
            'LEFT JOIN %I AS t ON t.dim_hash = c.dim_hash AND t.period = x.period))',
            g.grain || 's', _column_list(p_register.resources, '''{c}'', coalesce(t.{c}, 0)'), _bucket(g.grain),
            p_register.name || '_turnovers_' || g.grain), '' ORDER BY g.ordinality)
            FROM unnest(_grains(p_register)) WITH ORDINALITY AS g (grain, ordinality))
    )
$$;
COMMENT ON FUNCTION _explain_cells_statement(_registers) IS 'The statement that tells which cells a recorder''s movements are in, and their sums.';
