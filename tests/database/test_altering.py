"""register_alter: columns are added to a register that is full, and everything goes on."""

import threading

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.registers import Shop, element


def test_a_new_resource_is_zero_everywhere(shop: Shop) -> None:
    """Old rows read 0; new ones count at once, infinite ones are refused."""
    shop.post([element("r", "2026-01-05", 1, "x", quantity=1), element("s", "2025-01-05", 2, None, quantity=2)])
    shop.rows("SELECT register_alter('stock', add_resources => %s)", {"weight": "real", "pieces": "int"})
    assert shop.ask("SELECT stock_balance()") == {"amount": 0, "quantity": 3, "weight": 0, "pieces": 0}
    shop.post(element("t", "2026-01-05", 1, "x", pieces=5, weight=0.5))
    assert shop.ask("SELECT stock_turnover('2026-01-01')") == {"amount": 0, "quantity": 1, "weight": 0.5, "pieces": 5}
    assert shop.rows("SELECT warehouse, pieces FROM stock_balance_at('2026-12-31') ORDER BY 1") == [(1, 5), (2, 0)]
    infinite = "INSERT INTO stock_movements (recorder, period, weight) VALUES ('x', '2026-01-05', 'Infinity')"
    assert shop.refusal(infinite)[0] == "23514"
    assert shop.problems() == []


def test_a_new_dimension_is_null_in_what_is_there(shop: Shop) -> None:
    """Old cells keep their sums under new keys; reposting and unposting old movements comes back to nothing."""
    shop.post([element("r", "2026-01-05", 1, "x", quantity=1), element("s", "2025-01-05", 2, None, quantity=2)])
    shop.rows(
        "SELECT register_alter('stock', %s, %s)", [{"name": "colour", "type": "varchar(5)"}], {"pieces": "bigint"}
    )
    shop.post({**element("s", "2026-01-05", 1, "x", quantity=4), "colour": "red"})
    shop.post({**element("t", "2026-01-05", 1, "x", quantity=8), "colour": None})
    assert shop.refusal("SELECT register_post('stock', %s)", element("t", "2026-01-05", 1, "x"))[0] == "TS012"
    one_cell = {"warehouse": 1, "lot": "x", "colour": None}
    assert shop.ask("SELECT stock_balance(%s)", one_cell) == {"amount": 0, "quantity": 9, "pieces": 0}
    colours = "SELECT colour, sum(quantity)::int FROM stock_turnovers_day GROUP BY 1 ORDER BY 1"
    assert shop.rows(colours) == [("red", 4), (None, 11)]
    assert shop.problems() == []
    assert [shop.unpost(recorder) for recorder in "rst"] == [1, 2, 1]
    assert shop.rows("SELECT * FROM stock_balances") == []
    assert shop.problems() == []


@pytest.mark.parametrize("high_write", [False, True])
def test_views_of_others_stay(shop: Shop, high_write: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    """A register's views keep their columns in their places, new ones come last, and what stands on them goes on."""
    shop.rows("SELECT register_drop('stock')")
    shop.create("stock", high_write=high_write)
    shop.post(element("r", "2026-01-05", 1, "x", quantity=1))
    views = ("journal", "balances", "turnovers_day", "turnovers_month", "turnovers_year")
    for view in views:
        shop.rows(f"CREATE VIEW my_{view} AS SELECT * FROM stock_{view}")  # noqa: S608
    before = {view: columns_of(shop, view) for view in views}
    shop.rows("SELECT register_alter('stock', %s, %s)", {"colour": "text"}, {"pieces": "int"})
    shop.rows("SELECT register_alter('stock', %s)", {"size": "varchar(3)"})
    shop.rows("SELECT register_alter('stock', high_write => %s)", not high_write)
    shop.rows("SELECT _renew_registers()")
    shop.post({**element("s", "2026-01-05", 1, "x", quantity=2, pieces=3), "colour": "red", "size": "XL"})
    for view in views:
        assert columns_of(shop, view) == [*before[view], "colour", "pieces", "size"], view
        assert shop.ask(f"SELECT sum(quantity)::int FROM my_{view}") == 3  # noqa: S608
        added = f"SELECT colour, size, pieces::int FROM stock_{view} WHERE quantity = 2"  # noqa: S608
        assert shop.rows(added) == [("red", "XL", 3)]
    assert shop.ask("SELECT count(*) FROM my_journal JOIN my_balances USING (dim_hash, quantity)") == 2
    assert shop.problems() == []
    for view in views:
        shop.rows(f"DROP VIEW my_{view}")


def columns_of(shop: Shop, view: str) -> list[str]:
    """The names of a view's columns, in order."""
    names = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 ORDER BY attnum"
    return [name for (name,) in shop.rows(names, f"stock_{view}")]


def test_other_options_change_without_touching_tables(shop: Shop) -> None:
    """A wider window of periods is accepted at once, and what is not given stays."""
    early = element("r", "1999-01-05", 1, "x", quantity=1)
    assert shop.refusal("SELECT register_post('stock', %s)", early)[0] == "TS030"
    version = shop.ask("SELECT version FROM _registry_version")
    shop.rows("SELECT register_alter('stock', period_min => '1990-01-01', tombstone_unposts => true)")
    assert shop.post(early) == 1
    declared = "SELECT period_min::text, period_max::text, tombstone_unposts FROM _registers WHERE name = 'stock'"
    assert shop.rows(declared) == [("1990-01-01", "2099-12-31", True)]
    assert shop.ask("SELECT version FROM _registry_version") > version


@pytest.mark.scenario("O5")
def test_what_cannot_be_is_refused(shop: Shop) -> None:
    """Names that are taken, reserved or unknown types, unknown registers."""
    alter = "SELECT register_alter('stock', %s, %s)"
    assert shop.refusal(alter, {"warehouse": "int"}, None)[0] == "TS003"
    assert shop.refusal(alter, None, {"lot": "int"})[0] == "TS003"
    assert shop.refusal(alter, {"period": "int"}, None)[0] == "TS002"
    assert shop.refusal(alter, {"x": "json"}, None)[0] == "TS003"
    assert shop.refusal(alter, {'x"; DROP TABLE stock_movements; --': "int"}, None)[0] == "TS002"
    assert shop.refusal("SELECT register_alter('other')")[0] == "TS001"


@pytest.mark.scenario("O5", "W13")
@pytest.mark.parametrize("added", [{"add_resources": {"pieces": "int"}}, {"add_dimensions": {"colour": "text"}}])
def test_a_register_is_altered_while_sessions_post(shop: Shop, added: dict[str, object]) -> None:
    """They wait, or are told what their elements lack from then on; nothing is lost and nothing counted twice."""
    refused: list[str | None] = []
    go_on = threading.Event()
    go_on.set()

    def work(number: int) -> None:
        with shop.connect() as connection:
            while go_on.is_set():
                data = [element(None, "2026-01-05", warehouse, "x", quantity=1) for warehouse in range(5)]
                try:
                    connection.execute("SELECT register_repost('stock', %s, %s)", [f"r{number}", Jsonb(data)])
                except psycopg.Error as error:
                    refused.append(error.sqlstate)
                    return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    ((parameter, columns),) = added.items()
    shop.rows(f"SELECT register_alter('stock', {parameter} => %s)", columns)
    go_on.clear()
    for thread in threads:
        thread.join()
    assert set(refused) <= {"TS012"}
    assert shop.problems() == []


@pytest.mark.parametrize(
    "change",
    [
        "SELECT register_detach_partitions('stock', '2 years')",
        "SELECT register_alter('stock', subtotals => '[\"lot\"]')",
        "SELECT register_alter('stock', '{\"colour\": \"text\"}')",
        "SELECT register_drop('stock')",
    ],
)
def test_no_register_is_changed_by_who_does_not_see_it(shop: Shop, change: str) -> None:
    """A snapshot that is older than the wait for batches would leave out of sums what they committed, or drop it."""
    shop.rows("SELECT _ensure_partitions('stock', '{2020-01-01}')")
    with shop.connect(autocommit=False) as session:
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        session.execute("SELECT 1")
        shop.post(element("r", "2020-01-05", 1, "x", quantity=3))
        with pytest.raises(psycopg.Error) as refused:
            session.execute(change.encode())
        assert refused.value.sqlstate == "TS040"
    assert shop.ask("SELECT stock_balance()") == {"quantity": 3, "amount": 0}
    assert shop.problems() == []
