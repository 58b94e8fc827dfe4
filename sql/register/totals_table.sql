-- Net change per cell and {grain}. Half of each page is for new versions of its rows: with four sessions at work old ones are
-- kept for longer, and at 70 only 60 to 80 % of updates found room (99 % at 50, and batches took two thirds of the time).
CREATE TABLE {totals} (
    dim_hash bigint NOT NULL,
    period date NOT NULL,
    {dimension_columns},
    {sum_columns},
    PRIMARY KEY (dim_hash, period)
) WITH (fillfactor = 50);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {totals}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_derived();
