-- One cell that is given whole, as an object _given: what the function of a register compares, and finds it by.
CREATE OR REPLACE FUNCTION _given_cell_key(p_register _registers, p_given text) RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT 'hash_record_extended(ROW(' || string_agg(
        _key_part(d.value ->> 'type', replace(_filter_value(d.value, p_register.time_zone), '$1', p_given)), ', ' ORDER BY d.ordinality
    ) || '), 0)'
    FROM jsonb_array_elements(p_register.dimensions) WITH ORDINALITY AS d
);
COMMENT ON FUNCTION _given_cell_key(_registers, text) IS 'The expression of the key of the cell that an object with all dimensions gives.';

CREATE OR REPLACE FUNCTION _is_given_cell(p_register _registers) RETURNS text LANGUAGE sql STABLE
RETURN (
    SELECT string_agg(
        format('t.%I IS NOT DISTINCT FROM %s', d.value ->> 'name', replace(_filter_value(d.value, p_register.time_zone), '$1', '_given')),
        ' AND ' ORDER BY d.ordinality
    )
    FROM jsonb_array_elements(p_register.dimensions) WITH ORDINALITY AS d
);
COMMENT ON FUNCTION _is_given_cell(_registers) IS 'The condition on a row t that it is of the cell that _given gives: two cells may have one key.';

CREATE OR REPLACE FUNCTION _is_plainly(p_name text, p_type text) RETURNS text LANGUAGE sql IMMUTABLE
-- Coarse, and never wrong: what these let through can be read as its type, and no error is missed.
RETURN CASE
    WHEN p_type IN ('smallint', 'int', 'bigint') THEN format(
        '(_given ->> %L ~ %L) IS NOT FALSE', p_name,
        format('^-?[0-9]{1,%s}$', CASE p_type WHEN 'smallint' THEN 4 WHEN 'int' THEN 9 ELSE 18 END))
    WHEN p_type = 'uuid' THEN format(
        '(_given ->> %L ~ %L) IS NOT FALSE', p_name, '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$')
    WHEN p_type = 'boolean' THEN format('jsonb_typeof(_given -> %L) IN (''boolean'', ''null'')', p_name)
    WHEN p_type = 'text' THEN format('jsonb_typeof(_given -> %L) IN (''string'', ''null'')', p_name)
    WHEN p_type LIKE 'varchar%' THEN format(
        'jsonb_typeof(_given -> %1$L) IN (''string'', ''null'') AND coalesce(length(_given ->> %1$L), 0) <= %2$s', p_name,
        substring(p_type FROM '\d+'))
    ELSE 'false'
END;
COMMENT ON FUNCTION _is_plainly(text, text) IS 'The condition under which a dimension''s value in _given needs no second look.';

CREATE OR REPLACE FUNCTION _is_plainly_one_cell(p_register _registers) RETURNS text LANGUAGE sql STABLE
RETURN CASE
    WHEN _has_deltas(p_register) THEN 'false'
    ELSE (
        SELECT format('_given ?& %1$s AND _given - %1$s = ''{}'' AND ', _text_array(_names(p_register.dimensions)))
            || string_agg(_is_plainly(d.value ->> 'name', d.value ->> 'type'), ' AND ' ORDER BY d.ordinality)
        FROM jsonb_array_elements(p_register.dimensions) WITH ORDINALITY AS d
    )
END;
COMMENT ON FUNCTION _is_plainly_one_cell(_registers) IS
'The condition under which the object _given gives a value for every dimension, and none needs a second look.';
