-- Net change per value of one dimension and day, month or year, whatever the other dimensions, which are null here.
-- Numeric where cells have bigint: the sum of many cells may need more, and a batch must not be refused for its sake.
CREATE TABLE {subtotals} (
    _dimension text COLLATE "C" NOT NULL,
    _grain text COLLATE "C" NOT NULL,
    dim_hash bigint NOT NULL,
    period date NOT NULL,
    {dimension_columns},
    {subtotal_columns},
    PRIMARY KEY (_dimension, _grain, dim_hash, period)
) WITH (fillfactor = 50);
CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON {subtotals}
FOR EACH STATEMENT EXECUTE FUNCTION _guard_derived();
