-- Net change per cell and {grain}.
CREATE TABLE {totals} (
    dim_hash bigint NOT NULL,
    period date NOT NULL,
    {dimension_columns},
    {sum_columns},
    PRIMARY KEY (dim_hash, period)
) WITH (fillfactor = 70);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {totals}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_derived();
