-- Mending derived tables. Readers and the stream go on meanwhile.
CREATE OR REPLACE FUNCTION register_rebuild_totals(p_name text) RETURNS integer LANGUAGE plpgsql SECURITY DEFINER
SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _hold_register(p_name);
BEGIN
    RETURN _maintain(register.name, 'rebuild totals');
END
$$;
COMMENT ON FUNCTION register_rebuild_totals(text) IS
'Makes the totals of a register what its movements say, and returns how many rows were not. Batches and readers go on meanwhile.';

CREATE OR REPLACE FUNCTION register_rebuild_cache(p_name text, p_dim_hash bigint DEFAULT NULL) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path FROM CURRENT AS $$
DECLARE
    register _registers := _hold_register(p_name);
BEGIN
    RETURN _maintain(register.name, 'rebuild cache', p_dim_hash);
END
$$;
COMMENT ON FUNCTION register_rebuild_cache(text, bigint) IS
'Makes the balances of a register, or of one cell, what its movements say, and returns how many rows were not. '
'Batches and readers go on meanwhile. A register of kind turnover has no balances.';
