CREATE OR REPLACE VIEW {balances} AS
SELECT t.dim_hash, {dimensions_of_t}, {resources_of_t}, t.last_movement_at, t.version
FROM {balance_cache} AS t
WHERE {nonzero_of_t};
COMMENT ON VIEW {balances} IS 'The current balance of every cell of {register} that is not zero.';
