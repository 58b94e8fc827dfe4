-- How movements become totals and balances. Every writer goes through here: COPY, INSERT, DELETE, and the functions.
-- {keep} is the fold itself, or, in a register in high-write mode, what appends deltas for the compactor to fold.

-- Deltas come in key order: a sort finds them sorted, and groups cost 0.4 us each, by hash 0.7.
CREATE OR REPLACE FUNCTION {fold}(p_deltas {delta}[]) RETURNS void LANGUAGE plpgsql
SET search_path FROM CURRENT SET enable_hashagg = off AS $fold$
BEGIN
    -- Key order in every statement, tables always in this order: two transactions never wait for each other in a ring.
{fold_body}
END
$fold$;
COMMENT ON FUNCTION {fold}({delta}[]) IS
'Adds deltas, one for each cell and day, to the totals and the balance of {register}, in key order.';

CREATE OR REPLACE FUNCTION {inserted}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $inserted$
DECLARE
    deltas {delta}[];
    of_one_batch boolean;
    batch bigint;
BEGIN
    -- The worker keeps its recorders itself; for everybody else it is done here. The number of a batch alone proves
    -- nothing, anybody can write one: it has to be of a batch that this transaction has recorded.
    SELECT min(n.batch_id) = max(n.batch_id) AND count(n.batch_id) = count(*), min(n.batch_id)
    INTO of_one_batch, batch
    FROM new_rows AS n;
    IF of_one_batch IS NOT TRUE OR NOT EXISTS (
        SELECT 1 FROM _batches AS b WHERE b.batch_id = batch AND b.xmin = pg_current_xact_id()::xid
    ) THEN
        -- As the worker does it: those that are known in their order, and only then those that are new in theirs.
        PERFORM FROM {recorders} AS r WHERE r.recorder IN (SELECT n.recorder FROM new_rows AS n) ORDER BY r.recorder FOR UPDATE;
        INSERT INTO {recorders} AS r (recorder, first_period, last_period)
        SELECT n.recorder, min(n.period), max(n.period)
        FROM new_rows AS n
        GROUP BY n.recorder
        ORDER BY n.recorder
        ON CONFLICT (recorder) DO UPDATE SET
            first_period = least(r.first_period, excluded.first_period),
            last_period = greatest(r.last_period, excluded.last_period);
    END IF;

    SELECT array_agg(
        ROW(d.dim_hash, d.day, now(), 1::bigint, {dimensions_of_d}, {resources_of_d})::{delta} ORDER BY d.dim_hash, d.day
    )
    INTO deltas
    FROM (
        SELECT n.dim_hash, (n.period AT TIME ZONE {time_zone})::date AS day, {dimensions_of_n}, {sums_of_n}
        FROM new_rows AS n
        GROUP BY n.dim_hash, day, {dimensions_of_n}
    ) AS d;

    IF current_setting('tallystream.defer_fold', true) = 'on' AND EXISTS (SELECT 1 FROM {pending_folds}) THEN
        deltas := {merge_pending}(deltas);
    END IF;
    PERFORM {keep}(deltas);
    RETURN NULL;
END
$inserted$;

CREATE OR REPLACE FUNCTION {deleted}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $deleted$
DECLARE
    deltas {delta}[];
BEGIN
    SELECT array_agg(
        ROW(d.dim_hash, d.day, now(), 1::bigint, {dimensions_of_d}, {negated_resources_of_d})::{delta} ORDER BY d.dim_hash, d.day
    )
    INTO deltas
    FROM (
        SELECT o.dim_hash, (o.period AT TIME ZONE {time_zone})::date AS day, {dimensions_of_o}, {sums_of_o}
        FROM old_rows AS o
        GROUP BY o.dim_hash, day, {dimensions_of_o}
    ) AS d;

    -- A replacement folds once: its deletion waits for its insertion, so that cells are locked in one pass of key order.
    -- Forgetting the insertion is harmless, the commit folds what is left.
    IF current_setting('tallystream.defer_fold', true) = 'on' THEN
        INSERT INTO {pending_folds} (deltas) SELECT deltas WHERE deltas IS NOT NULL;
    ELSE
        PERFORM {keep}(deltas);
    END IF;
    RETURN NULL;
END
$deleted$;

CREATE OR REPLACE FUNCTION {merge_pending}(p_deltas {delta}[]) RETURNS {delta}[] LANGUAGE plpgsql
SET search_path FROM CURRENT AS $merge$
DECLARE
    merged {delta}[];
BEGIN
    WITH taken AS (DELETE FROM {pending_folds} RETURNING deltas)
    SELECT array_agg(
        ROW(d.dim_hash, d.day, now(), 1::bigint, {dimensions_of_d}, {resources_of_d})::{delta} ORDER BY d.dim_hash, d.day
    )
    INTO merged
    FROM (
        SELECT e.dim_hash, e.day, {dimensions_of_e}, {sums_of_e}
        FROM (
            SELECT p.* FROM unnest(p_deltas) AS p
            UNION ALL
            SELECT u.* FROM taken AS t, unnest(t.deltas) AS u
        ) AS e
        GROUP BY e.dim_hash, e.day, {dimensions_of_e}
    ) AS d
    WHERE {nonzero_of_d};
    RETURN merged;
END
$merge$;

CREATE OR REPLACE FUNCTION {fold_pending}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $pending$
BEGIN
    PERFORM {keep}({merge_pending}(NULL));
    RETURN NULL;
END
$pending$;
