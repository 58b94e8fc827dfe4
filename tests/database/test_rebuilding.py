"""register_verify finds what is wrong in derived tables, register_rebuild_* mends it, and neither stops anybody."""

import pytest

from tests.support.registers import Shop, element, reposting

REBUILD = "SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')"
DERIVED = ("stock_totals_day", "stock_totals_month", "stock_totals_year", "stock_balance_cache")


def unguard(shop: Shop) -> None:
    """Let the test do what nobody may: change derived tables by hand."""
    for table in DERIVED:
        shop.rows(f"ALTER TABLE {table} DISABLE TRIGGER guard")


@pytest.mark.scenario("O8")
def test_every_kind_of_damage_is_found_and_mended(shop: Shop) -> None:
    """Rows changed, lost, invented, and rows that claim to be another cell."""
    shop.post([element("r", f"2026-0{n}-05", n, "x", quantity=n) for n in range(1, 6)])
    unguard(shop)
    shop.rows("UPDATE stock_totals_day SET quantity = quantity + 1 WHERE warehouse = 1")
    shop.rows("DELETE FROM stock_totals_month WHERE warehouse = 2")
    shop.rows("INSERT INTO stock_totals_year (dim_hash, period, amount) VALUES (7, '2026-01-01', 1)")
    shop.rows("UPDATE stock_totals_day SET lot = 'y' WHERE warehouse = 3")
    shop.rows("DELETE FROM stock_balance_cache WHERE warehouse = 4")
    shop.rows("UPDATE stock_balance_cache SET amount = -1 WHERE warehouse = 5")
    found = sorted((check, status) for check, _, _, _, _, status in shop.problems())
    assert found == [
        ("balance", "MISMATCH"),
        ("balance", "MISSING_IN_CACHE"),
        ("day", "MISMATCH"),
        ("day", "MISMATCH"),
        ("month", "MISSING_IN_TOTALS"),
        ("year", "ORPHAN_IN_TOTALS"),
    ]
    lost = shop.ask("SELECT dim_hash FROM register_verify('stock') WHERE status = 'MISSING_IN_CACHE'")
    assert shop.ask("SELECT register_rebuild_cache('stock', %s)", lost) == 1
    assert shop.ask("SELECT quantity::int FROM stock_balances WHERE warehouse = 4") == 4
    # The invented year is taken back to zero, and then removed: nothing is the cell of its key.
    assert shop.rows(REBUILD) == [(5, 1)]
    assert shop.problems() == []
    assert shop.rows(REBUILD) == [(0, 0)]


@pytest.mark.scenario("C10", "O8")
def test_nothing_stops_and_nothing_is_wrong_while_sessions_post(shop: Shop) -> None:
    """Verification gives no false alarm; a rebuild among reposts leaves exactly what the movements say."""
    shop.post([element("r", "2026-01-05", n, "x", quantity=1) for n in range(20)])
    unguard(shop)
    with reposting(shop) as errors:
        alarms = [shop.problems() for _ in range(5)]
        shop.rows("UPDATE stock_totals_day SET quantity = quantity + 1 WHERE warehouse = 15")
        shop.rows("DELETE FROM stock_balance_cache WHERE warehouse = 19")
        mended = [shop.rows(REBUILD)[0] for _ in range(3)]
    assert (errors, alarms, mended) == ([], [[]] * 5, [(1, 1), (0, 0), (0, 0)])
    assert shop.problems() == []


def test_nobody_asks_for_maintenance_but_the_owner(shop: Shop) -> None:
    """The table that lets statements through to derived tables gives no right to anybody else."""
    granted = "SELECT relacl IS NULL FROM pg_class WHERE oid = '_maintenance'::regclass"
    assert shop.ask(granted) is True
    assert shop.refusal("UPDATE stock_totals_day SET quantity = 1")[0] == "TS020"
    assert shop.refusal("TRUNCATE stock_opening")[0] == "TS020"
