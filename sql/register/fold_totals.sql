    INSERT INTO {totals} AS t (dim_hash, period, {dimensions}, {resources})
    SELECT d.dim_hash, {bucket} AS period, {dimensions_of_d}, {sums_of_d}
    FROM unnest(p_deltas) AS d
    GROUP BY d.dim_hash, {bucket}, {dimensions_of_d}
    ORDER BY d.dim_hash, period
    ON CONFLICT (dim_hash, period) DO UPDATE SET {additions};
