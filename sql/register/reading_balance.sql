CREATE OR REPLACE FUNCTION {balance}(dimensions jsonb DEFAULT NULL, at_date date DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
DECLARE
    -- No column's name begins with _.
    _given jsonb := dimensions;
    _key bigint;
    _month date;
    _year date;
BEGIN
    -- One whole cell, plainly written: statements whose plans are kept take a quarter of what the general ones take, which are
    -- put together and planned anew with each call (0.07 ms for 0.31, the round trip included). Whatever needs a second look is left to those.
    IF (CASE WHEN jsonb_typeof(_given) = 'object' THEN {is_plainly_one_cell} ELSE false END) THEN
        _key := {given_cell_key};
        IF at_date IS NULL THEN
            RETURN (SELECT {sums_as_json} FROM {balances} AS t WHERE t.dim_hash = _key AND {is_given_cell});
        ELSIF {keeps_days} AND at_date BETWEEN '0001-01-01' AND '9999-12-30' THEN
            _month := date_trunc('month', (at_date + 1)::timestamp)::date;
            _year := date_trunc('year', (at_date + 1)::timestamp)::date;
            RETURN (
                SELECT {sums_as_json} FROM (
                    SELECT {resources_of_t} FROM {turnovers_year} AS t
                    WHERE t.dim_hash = _key AND t.period < _year AND {is_given_cell}
                    UNION ALL
                    SELECT {resources_of_t} FROM {turnovers_month} AS t
                    WHERE t.dim_hash = _key AND t.period >= _year AND t.period < _month AND {is_given_cell}
                    UNION ALL
                    SELECT {resources_of_t} FROM {turnovers_day} AS t
                    WHERE t.dim_hash = _key AND t.period >= _month AND t.period <= at_date AND {is_given_cell}
                ) AS t
            );
        END IF;
    END IF;
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
