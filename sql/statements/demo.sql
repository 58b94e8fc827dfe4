-- What `tallystream demo` reads from the registers of schema/registers/demo/shop.toml, as an application would.

-- name: demo_balances
-- Every balance of the shop's stock.
SELECT warehouse, product, lot, quantity, amount FROM {schema}.inventory_balances;

-- name: demo_balances_at
-- Every balance of the shop's stock as it was at the end of a day.
SELECT warehouse, product, lot, quantity, amount FROM {schema}.inventory_balance_at(%(at_date)s);

-- name: demo_turnovers
-- The shop's sales day by day.
SELECT period, product, channel, quantity, revenue FROM {schema}.sales_turnovers_day;

-- name: demo_turnover_by_product
-- The shop's sales between two days.
SELECT t.product, sum(t.quantity), sum(t.revenue)
FROM {schema}.sales_turnover_between(%(from_date)s, %(to_date)s) AS t
GROUP BY t.product
ORDER BY t.product;

-- name: demo_movements
-- How many movements the shop's registers have.
SELECT
    (SELECT count(*) FROM {schema}.inventory_movements),
    (SELECT count(*) FROM {schema}.sales_movements);
