-- The sum of all movements of each cell.
CREATE TABLE {balance_cache} (
    dim_hash bigint PRIMARY KEY,
    {dimension_columns},
    {sum_columns},
    last_movement_at timestamptz NOT NULL,
    version bigint NOT NULL
) WITH (fillfactor = 50);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {balance_cache}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_derived();
