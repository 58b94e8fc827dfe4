    -- Deltas are of one cell and day each already, and in this order.
    INSERT INTO {totals} AS t (dim_hash, period, {dimensions}, {resources})
    SELECT d.dim_hash, d.day, {dimensions_of_d}, {resources_of_d}
    FROM unnest(p_deltas) AS d
    ORDER BY d.dim_hash, d.day
    ON CONFLICT (dim_hash, period) DO UPDATE SET {additions};
