-- High-write: what a writer does in place of folding, and what folds later. Only where there is a table of deltas.
CREATE OR REPLACE FUNCTION {append}(p_deltas {delta}[]) RETURNS void LANGUAGE plpgsql
SET search_path FROM CURRENT AS $append$
BEGIN
    INSERT INTO {balance_cache_delta} (dim_hash, day, recorded_at, {dimensions}, {resources})
    SELECT d.dim_hash, d.day, d.recorded_at, {dimensions_of_d}, {resources_of_d}
    FROM unnest(p_deltas) AS d
    WHERE {nonzero_of_d};
END
$append$;
COMMENT ON FUNCTION {append}({delta}[]) IS 'Keeps deltas of {register} for the compactor; locks no cell.';

CREATE OR REPLACE FUNCTION {merge_deltas}(
    p_min_age interval, p_most integer, p_after tid, OUT merged integer, OUT last_place tid, OUT problem text
) LANGUAGE plpgsql SET search_path FROM CURRENT AS $merge$
DECLARE
    deltas {delta}[];
    -- Places are taken anew by later rows, and what commits late may lie anywhere: where to begin is only a hint, and
    -- whoever goes through the table begins again at its start.
    places tid[] := ARRAY(
        SELECT d.ctid
        FROM {balance_cache_delta} AS d
        WHERE d.ctid > p_after AND d.recorded_at <= now() - p_min_age
        LIMIT p_most
        FOR UPDATE SKIP LOCKED
    );
BEGIN
    last_place := places[cardinality(places)];
    WITH taken AS (
        DELETE FROM {balance_cache_delta} AS d WHERE d.ctid = ANY (places) RETURNING d.*
    )
    SELECT
        array_agg(ROW(d.dim_hash, d.day, d.recorded_at, d.version, {dimensions_of_d}, {resources_of_d})::{delta} ORDER BY d.dim_hash, d.day),
        coalesce(sum(d.version), 0)
    INTO deltas, merged
    FROM (
        SELECT e.dim_hash, e.day, max(e.recorded_at) AS recorded_at, count(*) AS version, {dimensions_of_e}, {sums_of_e}
        FROM taken AS e
        GROUP BY e.dim_hash, e.day, {dimensions_of_e}
    ) AS d;
    IF merged > 0 THEN
        PERFORM {fold}(deltas);
    END IF;
EXCEPTION
    -- A sum that no longer fits, or a key that two cells share: the slice stays, and others can still be folded.
    WHEN data_exception OR SQLSTATE 'TS021' THEN
        merged := 0;
        problem := SQLERRM;
END
$merge$;
COMMENT ON FUNCTION {merge_deltas}(interval, integer, tid) IS
'Folds pending deltas of {register}, at most so many, that lie behind a place in the table; those that another session folds are left out.';
