CREATE OR REPLACE FUNCTION {balance}(dimensions jsonb DEFAULT NULL, at_date date DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
BEGIN
    RETURN (SELECT b FROM _read_balance({register_literal}, dimensions, at_date, NULL) AS b);
END
$read$;
COMMENT ON FUNCTION {balance}(jsonb, date) IS
'Balance of {register} now, or at the end of a day, over the cells that match; zeros when there are none.';

CREATE OR REPLACE FUNCTION {balance_at}(at_date date)
RETURNS TABLE ({dimension_result}, {sum_result}) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
BEGIN
    RETURN QUERY EXECUTE _turnover_rows({register_literal}, NULL, at_date);
END
$read$;
COMMENT ON FUNCTION {balance_at}(date) IS 'Balance of every cell of {register} at the end of a day.';

CREATE OR REPLACE FUNCTION {balance_by}(group_by jsonb, dimensions jsonb DEFAULT NULL, at_date date DEFAULT NULL)
RETURNS SETOF jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
    SELECT _read_balance({register_literal}, dimensions, at_date, group_by)
$read$;
COMMENT ON FUNCTION {balance_by}(jsonb, jsonb, date) IS
'Balance of {register} per group_by, an array of dimension names, now or at the end of a day; groups that are zero are left out.';

CREATE OR REPLACE FUNCTION {balance_at_instant}(at_instant timestamptz, dimensions jsonb DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
BEGIN
    RETURN (SELECT b FROM _read_turnover_at({register_literal}, NULL, at_instant, dimensions, NULL) AS b);
END
$read$;
COMMENT ON FUNCTION {balance_at_instant}(timestamptz, jsonb) IS
'Balance of {register} after the movements of an instant; for the end of a day there is {balance}().';
