-- The read functions of one register; what they do is in sql/internal/reading.sql, once for all registers.
CREATE OR REPLACE FUNCTION {turnover}(
    from_date date DEFAULT NULL, to_date date DEFAULT NULL, dimensions jsonb DEFAULT NULL, group_by jsonb DEFAULT NULL
) RETURNS SETOF jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
    SELECT _read_turnover({register_literal}, from_date, to_date, dimensions, group_by)
$read$;
COMMENT ON FUNCTION {turnover}(date, date, jsonb, jsonb) IS
'Net change of {register} between two days, both included; per group_by, an array of dimension names, when given.';

CREATE OR REPLACE FUNCTION {turnover_between}(from_date date DEFAULT NULL, to_date date DEFAULT NULL)
RETURNS TABLE ({dimension_result}, {sum_result}) LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
BEGIN
    RETURN QUERY EXECUTE _turnover_rows({register_literal}, from_date, to_date);
END
$read$;
COMMENT ON FUNCTION {turnover_between}(date, date) IS 'Net change of every cell of {register} between two days, both included.';

CREATE OR REPLACE FUNCTION {turnover_between_instants}(
    from_instant timestamptz DEFAULT NULL, to_instant timestamptz DEFAULT NULL, dimensions jsonb DEFAULT NULL,
    group_by jsonb DEFAULT NULL
) RETURNS SETOF jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
    SELECT _read_turnover_at({register_literal}, from_instant, to_instant, dimensions, group_by)
$read$;
COMMENT ON FUNCTION {turnover_between_instants}(timestamptz, timestamptz, jsonb, jsonb) IS
'Net change of {register} between two instants, both included; for whole days there is {turnover}().';

CREATE OR REPLACE FUNCTION {movements_function}(
    p_recorder {recorder_parameter} DEFAULT NULL, from_date date DEFAULT NULL, to_date date DEFAULT NULL, dimensions jsonb DEFAULT NULL,
    p_limit integer DEFAULT NULL, p_after_period timestamptz DEFAULT NULL, p_after_id bigint DEFAULT NULL
) RETURNS SETOF jsonb LANGUAGE sql STABLE SECURITY DEFINER SET search_path FROM CURRENT AS $read$
    SELECT _read_movements({register_literal}, p_recorder::text, from_date, to_date, dimensions, p_limit, p_after_period, p_after_id)
$read$;
COMMENT ON FUNCTION {movements_function}({recorder_parameter}, date, date, jsonb, integer, timestamptz, bigint) IS
'Movements of {register} in the order of period and id; the next page of p_limit rows begins after the last row''s period and id.';
