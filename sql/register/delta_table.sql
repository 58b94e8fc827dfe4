-- Changes that totals and balance have not absorbed yet, of a register whose writers do not fold. Logged: a crash loses none.
CREATE TABLE {balance_cache_delta} (
    dim_hash bigint NOT NULL,
    day date NOT NULL,
    recorded_at timestamptz NOT NULL,
    {dimension_columns},
    {sum_columns}
);
CREATE INDEX ON {balance_cache_delta} (dim_hash);
COMMENT ON TABLE {balance_cache_delta} IS
'Pending deltas of {register}: one per cell, day and batch. Every view and read function adds them; the compactor folds them.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {balance_cache_delta}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_derived();
