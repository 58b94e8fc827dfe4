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

-- Only an index gives deltas in key order without sorting all that are pending for every slice; nothing else is scanned here.
CREATE OR REPLACE FUNCTION {merge_deltas}(
    p_min_age interval, p_most integer, p_first_key bigint, OUT merged integer, OUT last_key bigint, OUT problem text
) LANGUAGE plpgsql SET search_path FROM CURRENT SET enable_seqscan = off SET enable_bitmapscan = off AS $merge$
DECLARE
    deltas {delta}[];
    places tid[];
BEGIN
    -- In key order a slice has all deltas of a few cells, not a few of all: 5,000 of 80,000 that are of 1,000 cells take 25 ms, and
    -- 98 in the order in which they came. What commits late may lie before its end: whoever goes through the table begins again.
    SELECT array_agg(d.place), max(d.dim_hash)
    INTO places, last_key
    FROM (
        SELECT e.ctid AS place, e.dim_hash
        FROM {balance_cache_delta} AS e
        WHERE e.dim_hash >= p_first_key AND e.recorded_at <= now() - p_min_age
        ORDER BY e.dim_hash
        LIMIT p_most
        FOR UPDATE SKIP LOCKED
    ) AS d;
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
COMMENT ON FUNCTION {merge_deltas}(interval, integer, bigint) IS
'Folds pending deltas of {register} in key order, at most so many; those that another session folds are left out. Says with which cell it '
'ended, of which there may be more.';
