-- What a declaration may say. Nothing that a caller wrote reaches SQL unless it went through these functions.
CREATE OR REPLACE FUNCTION _dimension_type(p_type text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN lower(p_type) IN ('smallint', 'bigint', 'text', 'uuid', 'date', 'boolean', 'timestamptz') THEN lower(p_type)
    WHEN lower(p_type) IN ('int', 'integer') THEN 'int'
    WHEN lower(p_type) = 'timestamp with time zone' THEN 'timestamptz'
    WHEN lower(p_type) ~ '^varchar\([1-9][0-9]{0,3}\)$' THEN lower(p_type)
    WHEN lower(p_type) ~ '^numeric\([1-9][0-9]?, ?[0-9]{1,2}\)$' THEN replace(lower(p_type), ' ', '')
END;
COMMENT ON FUNCTION _dimension_type(text) IS 'The canonical name of a dimension''s type; null where it is not allowed.';

CREATE OR REPLACE FUNCTION _resource_type(p_type text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN lower(p_type) IN ('bigint', 'numeric', 'real', 'double precision') THEN lower(p_type)
    WHEN lower(p_type) IN ('int', 'integer') THEN 'int'
    WHEN lower(p_type) ~ '^numeric\([1-9][0-9]?, ?[0-9]{1,2}\)$' THEN replace(lower(p_type), ' ', '')
END;
COMMENT ON FUNCTION _resource_type(text) IS 'The canonical name of a resource''s type; null where it is not allowed.';

CREATE OR REPLACE FUNCTION _sum_type(p_type text) RETURNS text LANGUAGE sql IMMUTABLE
RETURN CASE
    WHEN p_type IN ('int', 'bigint') THEN 'bigint'
    ELSE 'numeric'
END;
COMMENT ON FUNCTION _sum_type(text) IS
'The type that holds sums of a resource: a day''s or a cell''s total may need more digits than one movement, and sums of '
'floating point numbers would depend on the order of the additions: they would not come back to zero.';

CREATE OR REPLACE FUNCTION _columns(p_columns jsonb, p_what text, p_register text) RETURNS jsonb LANGUAGE plpgsql AS $$
DECLARE
    listed jsonb;
    item jsonb;
    column_name text;
    column_type text;
    result jsonb := '[]';
BEGIN
    -- An object is what pg_accumulator takes; jsonb forgets its order, so an array of {name, type} keeps it.
    IF jsonb_typeof(p_columns) = 'object' THEN
        SELECT jsonb_agg(jsonb_build_object('name', key, 'type', value)) INTO listed FROM jsonb_each(p_columns);
    ELSIF jsonb_typeof(p_columns) = 'array' THEN
        listed := p_columns;
    END IF;
    IF listed IS NULL OR jsonb_array_length(listed) NOT BETWEEN 1 AND 32 THEN
        PERFORM _fail(
            'TS003', format('register %s: %ss must name between 1 and 32 columns', p_register, p_what),
            'Give an object like {"warehouse": "int"} or an array like [{"name": "warehouse", "type": "int"}].'
        );
    END IF;
    FOR item IN SELECT value FROM jsonb_array_elements(listed) LOOP
        column_name := item ->> 'name';
        IF column_name IS NULL OR column_name !~ '^[a-z][a-z0-9_]*$' OR length(column_name) > 63 THEN
            PERFORM _fail(
                'TS002', format('register %s: %s name %s is not allowed', p_register, p_what, coalesce(item ->> 'name', 'null')),
                'Names match ^[a-z][a-z0-9_]*$ and have at most 63 characters.'
            );
        END IF;
        IF column_name = ANY (_reserved_columns()) OR column_name LIKE 'tallystream\_%' THEN
            PERFORM _fail(
                'TS002', format('register %s: %s name %s is reserved', p_register, p_what, column_name),
                format('These names are taken: %s.', array_to_string(_reserved_columns(), ', '))
            );
        END IF;
        column_type := CASE p_what
            WHEN 'dimension' THEN _dimension_type(item ->> 'type') ELSE _resource_type(item ->> 'type')
        END;
        IF column_type IS NULL OR NOT _scale_fits(column_type) THEN
            PERFORM _fail(
                'TS003', format('register %s: %s %s has the unknown type %s', p_register, p_what, column_name, item ->> 'type'),
                CASE p_what
                    WHEN 'dimension'
                        THEN 'Dimensions: smallint int bigint text varchar(n) uuid date boolean numeric(p,s) timestamptz.'
                    ELSE 'Resources: numeric(p,s) numeric int bigint double precision real.'
                END
            );
        END IF;
        result := result || jsonb_build_object('name', column_name, 'type', column_type);
    END LOOP;
    RETURN result;
END
$$;
COMMENT ON FUNCTION _columns(jsonb, text, text) IS 'Checks dimensions or resources and returns them as an array of {name, type}.';

CREATE OR REPLACE FUNCTION _scale_fits(p_type text) RETURNS boolean LANGUAGE sql IMMUTABLE
RETURN coalesce(
    (SELECT m[1]::int <= 38 AND m[2]::int <= least(18, m[1]::int) FROM regexp_matches(p_type, '^numeric\((\d+),(\d+)\)$') AS m), true
);
COMMENT ON FUNCTION _scale_fits(text) IS 'Whether numeric(p,s) keeps to 38 digits, 18 of them decimals.';

CREATE OR REPLACE FUNCTION _reserved_columns() RETURNS text[] LANGUAGE sql IMMUTABLE
RETURN ARRAY[
    'id', 'recorded_at', 'recorder', 'period', 'movement_type', 'dim_hash', 'position_id', 'partition_id', 'event_offset', 'batch_id',
    'last_movement_at', 'version', 'day', 'topic', 'partition', 'from_date', 'to_date', 'at_date',
    'tableoid', 'ctid', 'xmin', 'cmin', 'xmax', 'cmax'
];
COMMENT ON FUNCTION _reserved_columns() IS 'Column names that a register''s tables, views and functions, or PostgreSQL, use themselves.';
