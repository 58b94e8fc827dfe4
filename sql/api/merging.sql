CREATE OR REPLACE FUNCTION _force_delta_merge(p_max_age interval DEFAULT '0 s', p_batch_size integer DEFAULT 1000000) RETURNS integer
LANGUAGE plpgsql SET search_path FROM CURRENT AS $$
DECLARE
    register _registers;
    merged bigint := 0;
BEGIN
    FOR register IN SELECT * FROM _registers AS r WHERE _has_deltas(r) ORDER BY r.name LOOP
        EXIT WHEN merged >= p_batch_size;
        merged := merged + _merge_or_fail(register.name, p_max_age, (p_batch_size - merged)::integer);
    END LOOP;
    RETURN merged;
END
$$;
COMMENT ON FUNCTION _force_delta_merge(interval, integer) IS
'Folds pending deltas older than p_max_age of all registers now, at most p_batch_size of them; returns how many. '
'Nothing depends on it: reads include pending deltas, and `tallystream compact` folds them all the time.';
