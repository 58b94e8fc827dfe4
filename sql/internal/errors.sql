-- One way to fail: an SQLSTATE of class TS, a lower-case fact with its ids, a hint.
CREATE OR REPLACE FUNCTION _fail(p_sqlstate text, p_message text, p_hint text DEFAULT NULL) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    -- An empty hint would be shown as one.
    IF p_hint IS NULL THEN
        RAISE EXCEPTION USING ERRCODE = p_sqlstate, MESSAGE = p_message;
    END IF;
    RAISE EXCEPTION USING ERRCODE = p_sqlstate, MESSAGE = p_message, HINT = p_hint;
END
$$;
COMMENT ON FUNCTION _fail(text, text, text) IS 'Raises an error of the class TS.';

CREATE OR REPLACE FUNCTION _cell_collision(p_table text, p_dim_hash bigint) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    PERFORM _fail(
        'TS021', format('two different cells of %s share the key %s', p_table, p_dim_hash),
        'Nothing was written. A 64-bit key met its own double: please report the two cells.'
    );
    RETURN NULL;
END
$$;
COMMENT ON FUNCTION _cell_collision(text, bigint) IS
'Called in place of an addition when a key matches and its dimension values do not.';
