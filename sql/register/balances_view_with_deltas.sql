CREATE OR REPLACE VIEW {balances} AS
SELECT
    e.dim_hash, {dimensions_of_e}, {sums_of_e}, max(e.last_movement_at) AS last_movement_at, sum(e.version)::bigint AS version
FROM (
    SELECT t.dim_hash, {dimensions_of_t}, {resources_of_t}, t.last_movement_at, t.version
    FROM {balance_cache} AS t
    UNION ALL
    SELECT d.dim_hash, {dimensions_of_d}, {resources_of_d}, d.recorded_at, 1
    FROM {balance_cache_delta} AS d
) AS e
GROUP BY e.dim_hash, {dimensions_of_e}
HAVING {nonzero_sums_of_e};
COMMENT ON VIEW {balances} IS 'The current balance of every cell of {register} that is not zero, pending deltas included.';
