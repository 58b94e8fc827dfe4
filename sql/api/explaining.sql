-- One document from end to end: its events, what was refused of it, its movements, and the numbers that they are in.
CREATE OR REPLACE FUNCTION register_explain(p_register text, p_recorder text, p_most integer DEFAULT 1000) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _register(p_register);
    result jsonb;
    cells jsonb;
BEGIN
    IF p_recorder IS NULL OR p_most IS NULL OR p_most < 0 THEN
        PERFORM _fail(
            'TS006', format('register %s: p_recorder is %s, p_most is %s', p_register, coalesce(p_recorder, 'null'),
                coalesce(p_most::text, 'null')),
            'Name a recorder, and the most movements and cells that you want to see.'
        );
    END IF;
    -- One statement for each answer, all in the caller's snapshot.
    EXECUTE _explain_statement(register) USING p_recorder, p_most INTO result;
    EXECUTE _explain_cells_statement(register) USING p_recorder, p_most INTO cells;
    RETURN jsonb_build_object('register', p_register, 'recorder', p_recorder) || result || jsonb_build_object(
        'cells', coalesce(cells, '[]'),
        'dead_letters', (
            SELECT coalesce(jsonb_agg(jsonb_build_object(
                'id', d.id, 'state', d.state, 'reason', d.reason, 'path', d.path, 'detail', d.detail, 'event_id', d.event_id,
                'topic', p.topic, 'partition', p.partition, 'offset', d.event_offset, 'batch_id', d.batch_id,
                'refused_at', d.created_at, 'settled_at', d.settled_at, 'settled_note', d.settled_note) ORDER BY d.id), '[]')
            FROM _dead_letters AS d LEFT JOIN _positions AS p ON d.position_id = p.id
            WHERE d.register = p_register AND d.recorder = p_recorder
        ),
        'not_known', array_remove(ARRAY[
            CASE WHEN (result ->> 'events_applied')::bigint > 0 THEN
                'duplicates and stale events that were skipped: only their numbers per batch are kept; '
                '`tallystream explain --from-topic` reads them in the topic' END,
            CASE WHEN (result ->> 'events_applied')::bigint > jsonb_array_length(result -> 'events') THEN
                'the offsets of applied events that were neither the last one nor left a movement' END,
            CASE WHEN (result ->> 'first_period')::timestamptz < _midnight(_detached_before(p_register), register.time_zone) THEN
                'movements in detached partitions' END
        ], NULL)
    );
EXCEPTION
    WHEN invalid_text_representation OR numeric_value_out_of_range THEN
        PERFORM _fail(
            'TS011', format('register %s: %s is no recorder of it', p_register, quote_literal(p_recorder)),
            format('Its recorders are of type %s.', register.recorder_type)
        );
        RETURN NULL;
END
$$;
COMMENT ON FUNCTION register_explain(text, text, integer) IS
'What is known of a document: how many of its events were applied and where those that are still known came from, its dead letters, '
'its movements, and the cells with the balance, days, months and years that they are in. At most p_most movements and cells are '
'listed, all are counted; not_known says what the database does not keep.';
