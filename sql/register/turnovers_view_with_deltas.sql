CREATE OR REPLACE VIEW {turnovers} AS
SELECT e.dim_hash, e.period, {dimensions_of_e}, {sums_of_e}
FROM (
    SELECT t.dim_hash, t.period, {dimensions_of_t}, {resources_of_t}
    FROM {totals} AS t
    UNION ALL
    SELECT d.dim_hash, {bucket}, {dimensions_of_d}, {resources_of_d}
    FROM {balance_cache_delta} AS d
) AS e
GROUP BY e.dim_hash, e.period, {dimensions_of_e}
HAVING {nonzero_sums_of_e};
COMMENT ON VIEW {turnovers} IS
'Net change of every cell of {register} per {grain}, pending deltas included; period is its first day.';
