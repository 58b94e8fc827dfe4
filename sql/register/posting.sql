-- Posting by SQL. Elements become rows of the movements table in one statement; who is to blame is asked only when it fails.
CREATE OR REPLACE FUNCTION {read_elements}(p_data jsonb, p_recorder text) RETURNS {movements}[] LANGUAGE plpgsql STABLE
SET search_path FROM CURRENT SET timezone = {time_zone} SET datestyle = 'ISO, YMD' AS $read$
DECLARE
    rows {movements}[];
    first_wrong bigint;
BEGIN
    -- Not m alone: a column may have that name.
    SELECT array_agg(m.* ORDER BY e.ordinality), min(e.ordinality) FILTER (WHERE (
        e.value ?& {required_keys} AND (e.value ? 'recorder' OR p_recorder IS NOT NULL) AND (e.value - {known_keys}) = '{}'
        AND NOT (e.value @? 'strict $.* ? (@.type() == "object" || @.type() == "array")')
        AND (m.recorder = p_recorder::{recorder_parameter} OR p_recorder IS NULL AND m.recorder IS NOT NULL OR NOT e.value ? 'recorder')
        AND {element_checks}
    ) IS NOT TRUE)
    INTO rows, first_wrong
    FROM jsonb_array_elements(CASE jsonb_typeof(p_data) WHEN 'object' THEN jsonb_build_array(p_data) ELSE p_data END)
        WITH ORDINALITY AS e
    CROSS JOIN LATERAL jsonb_populate_record(NULL::{movements}, e.value) AS m;
    IF p_data IS NULL OR first_wrong IS NOT NULL THEN
        PERFORM _refuse_elements({register_literal}, p_data, p_recorder);
    END IF;
    RETURN rows;
EXCEPTION
    WHEN data_exception THEN
        PERFORM _refuse_elements({register_literal}, p_data, p_recorder);
        RAISE;
END
$read$;
COMMENT ON FUNCTION {read_elements}(jsonb, text) IS
'The elements of register_post() as movements of {register}; times without an offset are local to the register.';

CREATE OR REPLACE FUNCTION {post_elements}(p_data jsonb, p_recorder text) RETURNS integer LANGUAGE plpgsql
SET search_path FROM CURRENT AS $post$
DECLARE
    rows {movements}[] := {read_elements}(p_data, p_recorder);
    deferred text := coalesce(current_setting('tallystream.defer_fold', true), '');
BEGIN
    -- Everybody goes this way: partitions, then recorders in their order, then cells in theirs.
    IF rows IS NOT NULL THEN
        PERFORM _ensure_partitions_at({register_literal}, (SELECT array_agg(DISTINCT r.period) FROM unnest(rows) AS r));
    END IF;
    IF p_recorder IS NOT NULL THEN
        INSERT INTO {recorders} (recorder) VALUES (p_recorder::{recorder_parameter}) ON CONFLICT (recorder) DO NOTHING;
        -- The deletion waits for the insertion: one fold, one pass over the cells.
        PERFORM set_config('tallystream.defer_fold', CASE WHEN rows IS NULL THEN deferred ELSE 'on' END, true);
        PERFORM {unpost_recorder}(p_recorder);
    END IF;
    FOR attempt IN 1 .. 2 LOOP
        BEGIN
            INSERT INTO {movements} (recorder, period, {dimensions}, {resources})
            SELECT coalesce(p_recorder::{recorder_parameter}, r.recorder), r.period, {dimensions_of_r}, {given_resources_of_r}
            FROM unnest(rows) AS r;
            EXIT;
        EXCEPTION
            -- It does not see a partition that there is: _see_partitions() says why.
            WHEN check_violation THEN
                IF attempt = 2 THEN
                    RAISE;
                END IF;
                PERFORM _announce_partitions({register_literal});
        END;
    END LOOP;
    PERFORM set_config('tallystream.defer_fold', deferred, true);
    RETURN coalesce(cardinality(rows), 0);
END
$post$;
COMMENT ON FUNCTION {post_elements}(jsonb, text) IS
'What register_post() does in {register}; with a recorder, what register_repost() does.';

CREATE OR REPLACE FUNCTION {unpost_recorder}(p_recorder text) RETURNS integer LANGUAGE plpgsql
SET search_path FROM CURRENT AS $unpost$
DECLARE
    state {recorders};
    removed integer;
BEGIN
    -- Whoever holds this row decides about the recorder's movements; the next one sees what was committed.
    SELECT * INTO state FROM {recorders} AS r WHERE r.recorder = p_recorder::{recorder_parameter} FOR UPDATE;
    IF state.first_period IS NULL THEN
        RETURN 0;
    END IF;
    PERFORM _see_partitions({register_literal});
    UPDATE {recorders} AS r SET first_period = NULL, last_period = NULL WHERE r.recorder = state.recorder;
    DELETE FROM {movements} AS m
    WHERE m.recorder = state.recorder AND m.period BETWEEN state.first_period AND state.last_period;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END
$unpost$;
COMMENT ON FUNCTION {unpost_recorder}(text) IS 'What register_unpost() does in {register}.';
