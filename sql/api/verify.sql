CREATE OR REPLACE FUNCTION register_verify(p_name text) RETURNS TABLE (
    check_type text, dim_hash bigint, period date, expected jsonb, actual jsonb, status text
) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT SET enable_hashagg = off AS $$
DECLARE
    register _registers := _register(p_name);
    checks text;
BEGIN
    -- One statement, so one snapshot: batches that commit meanwhile are seen by all parts of it or by none.
    SELECT string_agg(_verify_statement(register, c.grain), ' UNION ALL ' ORDER BY c.ordinality) INTO checks
    FROM unnest(CASE register.kind WHEN 'balance' THEN ARRAY['balance'] ELSE '{}' END || _grains(register)) WITH ORDINALITY
        AS c (grain, ordinality);
    IF _has_subtotals(register) THEN
        checks := checks || ' UNION ALL ' || _verify_subtotals_statement(register);
    END IF;
    -- No hashing: PostgreSQL takes cells and days for a tenth of the movements, and what it hashed of them went to disk, a fifth slower.
    RETURN QUERY EXECUTE format('WITH %s SELECT * FROM (%s) AS checks', _verified_sums(register), checks);
END
$$;
COMMENT ON FUNCTION register_verify(text) IS
'Compares totals and balances with the movements, in one snapshot. One row per difference, and one row OK for each check without any.';
