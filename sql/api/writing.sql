-- Posting from SQL: the same tables and the same folding as the stream.
CREATE OR REPLACE FUNCTION _hold_register(p_register text) RETURNS _registers LANGUAGE plpgsql AS $$
BEGIN
    -- As batches do: the declaration stays as it is until this transaction ends.
    PERFORM pg_advisory_xact_lock_shared(_lock_key('registry'));
    RETURN _register(p_register);
END
$$;
COMMENT ON FUNCTION _hold_register(text) IS 'The declaration of a register, which nobody changes before this transaction ends.';

CREATE OR REPLACE FUNCTION register_post(p_register text, p_data jsonb) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _hold_register(p_register);
    posted integer;
BEGIN
    EXECUTE format('SELECT %I($1, NULL)', register.name || '_post_elements') INTO posted USING p_data;
    RETURN posted;
END
$$;
COMMENT ON FUNCTION register_post(text, jsonb) IS
'Adds movements: an object, or an array of objects, each with recorder, period, every dimension, and resources (0 when missing). '
'A period without an offset is local to the register''s time zone. Returns how many movements there were.';

CREATE OR REPLACE FUNCTION register_unpost(p_register text, p_recorder text) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _hold_register(p_register);
    removed integer;
BEGIN
    PERFORM _check_recorder(register, p_recorder);
    EXECUTE format('SELECT %I($1)', register.name || '_unpost_recorder') INTO removed USING p_recorder;
    RETURN removed;
END
$$;
COMMENT ON FUNCTION register_unpost(text, text) IS
'Removes all movements of a recorder. Returns how many there were; 0 for an unknown recorder.';

CREATE OR REPLACE FUNCTION register_repost(p_register text, p_recorder text, p_data jsonb) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _hold_register(p_register);
    posted integer;
BEGIN
    PERFORM _check_recorder(register, p_recorder);
    EXECUTE format('SELECT %I($1, $2)', register.name || '_post_elements') INTO posted USING p_data, p_recorder;
    RETURN posted;
END
$$;
COMMENT ON FUNCTION register_repost(text, text, jsonb) IS
'Replaces all movements of a recorder by those given, in one step; [] leaves it without any. '
'The elements may leave recorder out. Returns how many movements there are now.';

CREATE OR REPLACE FUNCTION _check_recorder(p_register _registers, p_recorder text) RETURNS void LANGUAGE plpgsql STABLE AS $$
DECLARE
    problem text := CASE
        WHEN p_recorder IS NULL THEN 'must not be null'
        WHEN p_register.recorder_type <> 'text' THEN _value_problem(p_register.recorder_type, to_jsonb(p_recorder))
    END;
BEGIN
    IF problem IS NOT NULL THEN
        PERFORM _fail(
            'TS014', format('register %s: p_recorder: %s', p_register.name, problem),
            format('The register''s recorders are of type %s.', p_register.recorder_type)
        );
    END IF;
END
$$;
COMMENT ON FUNCTION _check_recorder(_registers, text) IS 'Fails unless the value can be a recorder of the register.';
