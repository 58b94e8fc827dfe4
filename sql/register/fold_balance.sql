    INSERT INTO {balance_cache} AS t (dim_hash, {dimensions}, {resources}, last_movement_at, version)
    SELECT d.dim_hash, {dimensions_of_d}, {sums_of_d}, max(d.recorded_at), sum(d.version)
    FROM unnest(p_deltas) AS d
    GROUP BY d.dim_hash, {dimensions_of_d}
    ORDER BY d.dim_hash
    ON CONFLICT (dim_hash) DO UPDATE SET {additions},
        last_movement_at = greatest(t.last_movement_at, excluded.last_movement_at), version = t.version + excluded.version;
