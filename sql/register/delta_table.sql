-- Changes that totals and balance have not absorbed yet, of a register whose writers do not fold. Logged: a crash loses none.
CREATE TABLE {balance_cache_delta} (
    dim_hash bigint NOT NULL,
    day date NOT NULL,
    recorded_at timestamptz NOT NULL,
    {dimension_columns},
    {sum_columns}
) WITH (
    -- Every row is here for a moment. Rows that were folded are left to VACUUM, which alone knows that no snapshot needs them:
    -- truncating a drained table would take deltas from a reader who sees totals without them. The compactor vacuums every few
    -- seconds, and this keeps autovacuum close behind where it may not: at 4,000 deltas/s 1.1 MB instead of 0.27 MB more each second.
    autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0,
    autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 100000
);
CREATE INDEX ON {balance_cache_delta} (dim_hash);
COMMENT ON TABLE {balance_cache_delta} IS
'Pending deltas of {register}: one per cell, day and batch. Every view and read function adds them; the compactor folds them.';
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {balance_cache_delta}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_derived();
