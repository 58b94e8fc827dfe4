-- Extending a register. Nothing here loses data: columns are only added.
CREATE OR REPLACE FUNCTION register_alter(
    p_name text, add_dimensions jsonb DEFAULT NULL, add_resources jsonb DEFAULT NULL, high_write boolean DEFAULT NULL,
    tombstone_unposts boolean DEFAULT NULL, period_min date DEFAULT NULL, period_max date DEFAULT NULL,
    high_write_auto boolean DEFAULT NULL, subtotals jsonb DEFAULT NULL
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path FROM CURRENT AS $$
#variable_conflict use_variable
DECLARE
    register _registers;
    dimensions jsonb := '[]';
    resources jsonb := '[]';
    former_subtotals jsonb;
BEGIN
    -- Batches wait here and then read the declarations again; readers go on until tables really change.
    PERFORM _change_registry();
    register := _register(p_name);
    PERFORM _switch_high_write(register, coalesce(high_write, register.high_write));
    register.high_write := coalesce(high_write, register.high_write);
    register.high_write_auto := coalesce(high_write_auto, register.high_write_auto);
    IF add_dimensions NOT IN ('{}', '[]', 'null') THEN
        dimensions := _columns(add_dimensions, 'dimension', p_name);
    END IF;
    IF add_resources NOT IN ('{}', '[]', 'null') THEN
        resources := _columns(add_resources, 'resource', p_name);
    END IF;
    register.dimensions := register.dimensions || dimensions;
    register.resources := register.resources || resources;
    register.tombstone_unposts := coalesce(tombstone_unposts, register.tombstone_unposts);
    register.period_min := coalesce(period_min, register.period_min);
    register.period_max := coalesce(period_max, register.period_max);
    former_subtotals := register.subtotals;
    register.subtotals := coalesce(nullif(subtotals, 'null'), former_subtotals);
    register := _check_declaration(register);
    UPDATE _registers AS r SET
        dimensions = register.dimensions, resources = register.resources, high_write = register.high_write,
        high_write_auto = register.high_write_auto, subtotals = register.subtotals,
        tombstone_unposts = register.tombstone_unposts, period_min = register.period_min, period_max = register.period_max
    WHERE r.name = p_name;
    IF dimensions <> '[]' OR resources <> '[]' THEN
        PERFORM _add_columns(register, dimensions, resources);
    END IF;
    IF register.subtotals <> former_subtotals THEN
        PERFORM _change_subtotals(register);
    END IF;
    IF dimensions = '[]' AND resources = '[]' THEN
        -- Last, because it locks the views: readers wait for nobody's movements.
        PERFORM _install_functions(register);
    END IF;
    PERFORM _grant_register(register);
END
$$;
COMMENT ON FUNCTION register_alter(text, jsonb, jsonb, boolean, boolean, date, date, boolean, jsonb) IS
'Adds dimensions (null in old movements) and resources (0 in old movements), or changes what is not given as null. '
'A running consumer waits meanwhile and reads the new declaration. A new dimension rewrites the movements table. '
'Views get new columns at their end, so that views of one''s own may stand on them. '
'Turning high_write off folds all pending deltas first; let the compactor drain them before, or it takes long. '
'New subtotals are added up from the finest totals, while batches wait.';
