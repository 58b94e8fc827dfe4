    INSERT INTO {subtotals} AS t (_dimension, _grain, dim_hash, period, {dimensions}, {resources})
    {subtotals_of_deltas}
    ORDER BY 1, 2, 3, 4
    ON CONFLICT (_dimension, _grain, dim_hash, period) DO UPDATE SET {additions};
