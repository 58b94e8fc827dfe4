-- Pending deltas of registers in high-write mode: folding them, a bounded slice at a time.
-- Derived tables take changes from triggers only, so a slice is asked for by an insertion into this view; it keeps no rows.
CREATE OR REPLACE VIEW _merges AS
SELECT
    NULL::text AS register, NULL::interval AS min_age, NULL::integer AS most, NULL::bigint AS first_key,
    NULL::integer AS merged, NULL::bigint AS last_key, NULL::text AS problem
WHERE false;
COMMENT ON VIEW _merges IS 'An insertion folds a slice of a register''s pending deltas, and returns how many they were and with which cell it ended.';

CREATE OR REPLACE FUNCTION _run_merge() RETURNS trigger LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
BEGIN
    EXECUTE format('SELECT m.merged, m.last_key, m.problem FROM %I($1, $2, $3) AS m', new.register || '_merge_deltas')
    INTO new.merged, new.last_key, new.problem USING new.min_age, new.most, new.first_key;
    RETURN new;
END
$$;
COMMENT ON FUNCTION _run_merge() IS 'Folds the slice that a row of _merges asks for.';

CREATE OR REPLACE TRIGGER run INSTEAD OF INSERT ON _merges FOR EACH ROW EXECUTE FUNCTION _run_merge();

CREATE OR REPLACE FUNCTION _merge_slice(
    p_register text, p_min_age interval, p_most integer, p_first_key bigint DEFAULT -9223372036854775808, OUT merged integer,
    OUT last_key bigint, OUT problem text
) LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    register _registers := _hold_register(p_register);
BEGIN
    IF _has_deltas(register) THEN
        INSERT INTO _merges (register, min_age, most, first_key) VALUES (register.name, p_min_age, p_most, p_first_key)
        RETURNING merged, last_key, problem INTO merged, last_key, problem;
    END IF;
    merged := coalesce(merged, 0);
END
$$;
COMMENT ON FUNCTION _merge_slice(text, interval, integer, bigint) IS
'Folds at most p_most pending deltas of a register that are older than p_min_age, from p_first_key on; says how many, with which cell it ended, '
'and why none where they cannot be added. '
'In key order, and once in a transaction: two that meet wait for one another and never in a ring.';

CREATE OR REPLACE FUNCTION _merge_or_fail(p_register text, p_min_age interval, p_most integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    slice record;
BEGIN
    SELECT * INTO slice FROM _merge_slice(p_register, p_min_age, p_most);
    IF slice.problem IS NOT NULL THEN
        PERFORM _fail(
            'TS023', format('register %s: its pending deltas cannot be folded: %s', p_register, slice.problem),
            'Nothing was lost: reads include them. Unpost what makes the sum too large, or run `tallystream compact`, which folds the others.'
        );
    END IF;
    RETURN slice.merged;
END
$$;
COMMENT ON FUNCTION _merge_or_fail(text, interval, integer) IS 'Folds a slice from the start of the pending deltas; returns how many they were.';

CREATE OR REPLACE FUNCTION _switch_high_write(p_register _registers, p_high_write boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_high_write AND NOT p_register.high_write THEN
        -- Whoever still folds while this commits does no harm: a fold is right in either mode.
        IF NOT _has_deltas(p_register) THEN
            EXECUTE _render('delta_table', _fragments(p_register));
        END IF;
    ELSIF p_register.high_write AND NOT p_high_write THEN
        -- Batches are waiting already. Nobody may append by hand either, from here until the writers' functions are others.
        EXECUTE format('LOCK TABLE ONLY %I IN SHARE ROW EXCLUSIVE MODE', p_register.name || '_movements');
        -- In slices, for the sake of memory: nobody who could wait for their cells in another order is about.
        WHILE _merge_or_fail(p_register.name, '0 s', 100000) > 0 LOOP
        END LOOP;
    END IF;
END
$$;
COMMENT ON FUNCTION _switch_high_write(_registers, boolean) IS
'Before the declaration changes: gives a register its table of deltas, or folds all that is in there.';

CREATE OR REPLACE FUNCTION _pending_deltas() RETURNS TABLE (register text, high_write boolean, deltas bigint, oldest_at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    found_register _registers;
BEGIN
    FOR found_register IN SELECT * FROM _registers AS r WHERE _has_deltas(r) ORDER BY r.name LOOP
        RETURN QUERY EXECUTE format(
            'SELECT $1, $2, count(*), min(d.recorded_at) FROM %I AS d', found_register.name || '_balance_cache_delta'
        ) USING found_register.name, found_register.high_write;
    END LOOP;
END
$$;
COMMENT ON FUNCTION _pending_deltas() IS
'Every register that has or had high-write mode, with the number of its pending deltas and when the oldest was recorded.';
