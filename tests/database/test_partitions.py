"""Partitions are made when they are needed or ahead, and old ones go without changing a single answer."""

import threading
from datetime import date

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.registers import Shop, element

VERIFIED = "SELECT check_type, status FROM register_verify('stock')"
DETACH = "SELECT * FROM register_detach_partitions('stock', now() - '2022-01-01'::timestamptz)"


def post_old_and_new(shop: Shop) -> None:
    """Two partitions from long ago, one recorder with movements then and now."""
    shop.post(
        [
            element("old", "2020-04-18", 1, None, quantity=100),
            element("both", "2020-05-18 12:00", 2, "x", quantity=10),
            element("both", "2026-05-18 12:00", 2, "x", quantity=1),
        ]
    )


@pytest.mark.scenario("P13")
def test_sessions_that_need_the_same_new_partition_share_it(shop: Shop) -> None:
    """Whoever comes second waits for the first and uses what it made."""
    errors: list[psycopg.Error] = []
    ready = threading.Barrier(6)

    def work(number: int) -> None:
        with shop.connect() as connection:
            ready.wait()
            try:
                data = [element(f"r{number}", f"20{year}-02-05", 1, "x", quantity=1) for year in (21, 22)]
                connection.execute("SELECT register_post('stock', %s)", [Jsonb(data)])
            except psycopg.Error as error:
                errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert shop.ask("SELECT sum(quantity)::int FROM stock_balances") == 12
    assert shop.ask("SELECT count(*) FROM register_partitions('stock')") == 2


def test_partitions_are_made_ahead(shop: Shop) -> None:
    """From today on, as far as asked; a second time there is nothing to do."""
    assert shop.ask("SELECT register_create_partitions('stock', '3 months')") == 4
    assert shop.ask("SELECT register_create_partitions('stock', '3 months')") == 0
    first, before = shop.rows("SELECT min(from_date), max(before_date) FROM register_partitions('stock')")[0]
    assert first <= date.today() < before  # noqa: DTZ011 - the machine's day, give or take one
    assert shop.ask("SELECT register_stats('stock') -> 'partitions'") == 4


@pytest.mark.parametrize("totals_period", ["day", "month"])
def test_detached_movements_stay_in_every_answer(shop: Shop, totals_period: str) -> None:
    """Balances, turnovers within the old months, verification and rebuilds are as before; so is a new dimension."""
    shop.rows("SELECT register_drop('stock')")
    shop.create("stock", totals_period=totals_period)
    post_old_and_new(shop)
    asked = "SELECT stock_balance(), stock_balance(NULL, '2020-04-30'), stock_turnover('2020-05-18', '2020-05-18')"
    before = shop.rows(asked)
    assert shop.rows(DETACH) == [("stock_movements_2020_04", 1), ("stock_movements_2020_05", 1)]
    assert shop.rows(DETACH) == []
    assert shop.rows(asked) == before
    assert {status for _, status in shop.rows(VERIFIED)} == {"OK"}
    assert shop.rows("SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')") == [(0, 0)]
    shop.rows("DROP TABLE stock_movements_2020_04")
    assert shop.rows("SELECT state, bytes FROM register_partitions('stock') LIMIT 1") == [("detached", 0)]
    shop.rows("SELECT register_alter('stock', %s)", {"colour": "text"})
    assert shop.rows(asked) == before
    assert shop.problems() == []


def test_detached_movements_cannot_be_taken_back(shop: Shop) -> None:
    """Their periods and recorders are refused with what happened and what to do; later periods go on."""
    post_old_and_new(shop)
    shop.rows(DETACH)
    for statement in (
        "SELECT register_unpost('stock', 'old')",
        "SELECT register_unpost('stock', 'both')",
        "SELECT register_repost('stock', 'both', '[]')",
        "SELECT stock_balance_at_instant('2020-05-18T11:00:00Z')",
    ):
        assert shop.refusal(statement)[0] == "TS031", statement
    again = element("new", "2020-04-18", 1, None, quantity=100)
    assert shop.refusal("SELECT register_post('stock', %s)", again)[0] == "TS031"
    assert shop.post(element("old", "2026-04-18", 1, None, quantity=-100)) == 1
    assert shop.ask("SELECT stock_balance('{\"warehouse\": 1}')") == {"amount": 0, "quantity": 0}
    assert shop.ask("SELECT stock_balance_at_instant('2026-05-18T11:00:00Z') -> 'quantity'") == 11
    assert shop.problems() == []


def test_a_day_that_is_partly_detached_is_verified_as_one(shop: Shop) -> None:
    """Where the rules of a time zone change, a day can lie on both sides of a partition's bound."""
    shop.post([element("new", "2026-05-18", 1, "x", quantity=10)])
    shop.rows("ALTER TABLE stock_opening DISABLE TRIGGER guard")
    shop.rows(
        "INSERT INTO stock_opening (dim_hash, period, warehouse, lot, quantity, amount)"
        " SELECT dim_hash, period, warehouse, lot, 5, 0 FROM stock_totals_day RETURNING 1"
    )
    found = shop.rows("SELECT expected -> 'quantity', actual -> 'quantity', status FROM register_verify('stock')")
    assert found == [(15, 10, "MISMATCH")] * 4
