-- Registers that switch to high-write by themselves: who waits for their cells, and the switch.
CREATE OR REPLACE FUNCTION _waiting_for_cells() RETURNS TABLE (register text, sessions bigint) LANGUAGE sql STABLE
SECURITY DEFINER SET search_path FROM CURRENT AS $$
    -- A lock on a row names the transaction that is waited for, and seldom the table. But whoever folds has locked the tables
    -- that it folds into, and locks nothing else by then; of several registers the last in order is where it waits.
    WITH locks AS MATERIALIZED (
        SELECT l.pid, l.locktype, l.relation, l.mode, l.granted FROM pg_locks AS l
        WHERE l.database IS NULL OR l.database = (SELECT b.oid FROM pg_database AS b WHERE b.datname = current_database())
    ), tables AS MATERIALIZED (
        SELECT r.name, ARRAY(SELECT to_regclass(quote_ident(d))::oid FROM _derived_tables(r) AS d) AS relations FROM _registers AS r
    ), waiting AS (
        SELECT t.pid, max(r.name) AS name
        FROM tables AS r
        INNER JOIN locks AS t ON t.relation = ANY (r.relations)
        WHERE t.locktype = 'relation' AND t.mode = 'RowExclusiveLock' AND t.granted
        AND t.pid IN (SELECT l.pid FROM locks AS l WHERE NOT l.granted AND l.locktype IN ('transactionid', 'tuple'))
        GROUP BY t.pid
    )
    SELECT r.name, (SELECT count(*) FROM waiting AS w WHERE w.name = r.name)
    FROM _registers AS r
    WHERE r.high_write_auto AND NOT r.high_write
$$;
COMMENT ON FUNCTION _waiting_for_cells() IS
'How many sessions wait, at this moment, for cells of each register that may still switch to high-write by itself.';

CREATE OR REPLACE FUNCTION _switch_to_high_write(p_register text) RETURNS boolean LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM _registers AS r WHERE r.name = p_register AND r.high_write_auto AND NOT r.high_write) THEN
        RETURN false;
    END IF;
    PERFORM register_alter(p_register, high_write => true);
    RETURN true;
END
$$;
COMMENT ON FUNCTION _switch_to_high_write(text) IS
'Turns high-write on for a register that was declared to decide by itself, and says whether it did; any other stays as it is.';
