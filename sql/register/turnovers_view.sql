CREATE OR REPLACE VIEW {turnovers} AS
SELECT t.dim_hash, t.period, {dimensions_of_t}, {resources_of_t}
FROM {totals} AS t
WHERE {nonzero_of_t};
COMMENT ON VIEW {turnovers} IS 'Net change of every cell of {register} per {grain}; period is its first day.';
