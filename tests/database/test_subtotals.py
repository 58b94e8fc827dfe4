"""Subtotals: totals of each value of a dimension, so that questions about one dimension need not add up its cells."""

from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from psycopg.types.json import Jsonb

from tests.support.registers import Shop, element, reposting

REBUILD = "SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')"
KEPT = "SELECT DISTINCT _dimension FROM stock_subtotals ORDER BY 1"
LEAST, GREATEST = -(2**63), 2**63 - 1
VALUES: dict[str, list[object]] = {
    "smallint": [1, -1, None],
    "int": [1, 2, None],
    "bigint": [1, 2**32, None],
    "text": ["", "a", "ä'\\", None],
    "varchar(3)": ["", "abc", None],
    "uuid": ["3f2504e0-4f89-11d3-9a0c-0305e82c3301", None],
    "date": ["2026-01-01", "2026-01-02", None],
    "boolean": [True, False, None],
    "numeric(9,2)": [1.5, -1.5, None],
    "timestamptz": ["2026-01-01T00:00:00Z", "2026-01-01T00:00:01Z", None],
}


@pytest.fixture
def kept(shop: Shop) -> Shop:
    """The register stock with subtotals of its warehouses, and some movements in it."""
    shop.rows("SELECT register_alter('stock', subtotals => %s)", ["warehouse"])
    shop.post([element("r", f"2026-0{n}-05", n % 3, lot, quantity=n) for n in range(1, 7) for lot in ("x", "y", None)])
    return shop


@pytest.mark.parametrize(
    ("dimensions", "group_by", "read"),
    [
        ({"warehouse": 1}, None, "warehouse"),
        ({"warehouse": None}, ["warehouse"], "warehouse"),
        (None, ["warehouse"], "warehouse"),
        ({}, None, "warehouse"),
        (None, None, "warehouse"),
        ({"lot": "x"}, None, None),
        ({"warehouse": 1, "lot": "x"}, None, None),
        ({"warehouse": 1}, ["lot"], None),
        (None, ["lot"], None),
    ],
)
def test_who_asks_by_one_dimension_reads_subtotals(
    kept: Shop, dimensions: object, group_by: object, read: str | None
) -> None:
    """And nobody else does: a question about two dimensions cannot be answered by them."""
    chosen = "SELECT _subtotals_to_read(_register('stock'), %s, %s)"
    asked = [None if value is None else Jsonb(value) for value in (dimensions, group_by)]
    assert kept.ask(chosen, *asked) == read
    source = "SELECT _turnover_source(_register('stock'), NULL, '2026-04-05', 'true', %s)"
    assert ("stock_subtotals" in kept.ask(source, read)) is (read is not None)
    assert ("stock_turnovers" in kept.ask(source, read)) is (read is None)


@pytest.mark.parametrize(("column_type", "values"), VALUES.items())
def test_a_value_of_any_type_has_subtotals(shop: Shop, column_type: str, values: list[object]) -> None:
    """Null as well, and however near two values are."""
    dimensions = [{"name": "one", "type": column_type}, {"name": "two", "type": "int"}]
    shop.create("typed", dimensions, [{"name": "n", "type": "bigint"}], subtotals=Jsonb(["one", "two"]))
    lines = [
        {"recorder": "r", "period": "2026-02-03", "one": value, "two": two, "n": 10**place}
        for two in (1, None)
        for place, value in enumerate(values)
    ]
    shop.post(lines, "typed")
    for place, value in enumerate(values):
        assert shop.ask("SELECT typed_balance(%s)", {"one": value}) == {"n": 2 * 10**place}
        assert shop.ask("SELECT typed_balance(%s, '2026-02-02')", {"one": value}) == {"n": 0}
        assert shop.ask("SELECT typed_turnover('2026-02-03', '2026-02-03', %s)", {"one": value}) == {"n": 2 * 10**place}
    assert shop.ask("SELECT typed_balance(%s)", {"two": None}) == {"n": int("1" * len(values))}
    assert shop.problems("typed") == []
    shop.unpost("r", "typed")
    assert shop.problems("typed") == []


@pytest.mark.scenario("O8")
def test_damage_is_found_and_mended(kept: Shop) -> None:
    """Rows changed, lost, invented, of another value, and of a dimension that has none."""
    kept.rows("ALTER TABLE stock_subtotals DISABLE TRIGGER guard")
    kept.rows("UPDATE stock_subtotals SET quantity = 1 WHERE warehouse = 1 AND _grain = 'year'")
    kept.rows("DELETE FROM stock_subtotals WHERE warehouse = 2 AND _grain = 'month' AND period = '2026-02-01'")
    kept.rows("INSERT INTO stock_subtotals VALUES ('lot', 'day', 7, '2026-01-01', NULL, 'x', 5, 5)")
    kept.rows("UPDATE stock_subtotals SET warehouse = 9 WHERE warehouse = 0 AND _grain = 'year'")
    said = [(status, expected or actual) for _, _, _, expected, actual, status in kept.problems()]
    assert sorted((status, what["dimension"], what["value"], what["grain"]) for status, what in said) == [
        ("MISMATCH", "warehouse", 0, "year"),
        ("MISMATCH", "warehouse", 1, "year"),
        ("MISSING_IN_TOTALS", "warehouse", 2, "month"),
        ("ORPHAN_IN_TOTALS", "lot", "x", "day"),
    ]
    assert {"quantity": 5, "amount": 5} in [what["sums"] for _, what in said]
    assert {row[0] for row in kept.problems()} == {"subtotals"}
    assert kept.rows(REBUILD) == [(4, 0)]
    assert kept.problems() == []
    assert kept.rows(REBUILD) == [(0, 0)]


def test_a_difference_names_its_value_whatever_the_dimension_is_called(shop: Shop) -> None:
    """A word of SQL is a name as well."""
    dimensions = [{"name": "order", "type": "text"}, {"name": "user", "type": "int"}]
    shop.create("words", dimensions, [{"name": "group", "type": "int"}], subtotals=Jsonb(["order", "user"]))
    shop.post({"recorder": "r", "period": "2026-01-05", "order": "x", "user": 7, "group": 2}, "words")
    for name, value in (("order", "x"), ("user", 7)):
        assert shop.ask("SELECT words_balance(%s, '2026-01-05')", {name: value}) == {"group": 2}
    shop.rows("ALTER TABLE words_subtotals DISABLE TRIGGER guard")
    shop.rows("DELETE FROM words_subtotals WHERE _grain = 'day'")
    expected = [row[3] for row in shop.problems("words")]
    assert [(what["dimension"], what["value"]) for what in expected] == [("order", "x"), ("user", 7)]


def test_nobody_changes_them_by_hand(kept: Shop) -> None:
    """They are guarded as all derived tables are."""
    for change in (
        "UPDATE stock_subtotals SET quantity = 1",
        "DELETE FROM stock_subtotals",
        "TRUNCATE stock_subtotals",
    ):
        assert kept.refusal(change)[0] == "TS020"


def test_they_come_and_go_while_sessions_post(shop: Shop) -> None:
    """New ones are added up from what is there; nothing is lost and nothing counted twice, whoever posts meanwhile."""
    with reposting(shop) as errors:
        for then in (["lot"], ["warehouse", "lot"], ["warehouse"], [], ["lot"]):
            shop.rows("SELECT register_alter('stock', subtotals => %s)", then)
            assert shop.problems() == []
            assert [name for (name,) in shop.rows(KEPT)] in (sorted(then), [])
    assert errors == []
    assert shop.problems() == []


def test_rows_are_locked_in_one_order_under_any_collation(kept: Shop) -> None:
    """Folding and mending sort by bytes: in most databases text would sort otherwise, and each in a way of its own."""
    mending = kept.rows("SELECT _subtotals_corrections(_register('stock'))")[1][0]
    days = "(SELECT t.*, t.period AS day FROM stock_totals_day AS t)"
    folding = kept.ask("SELECT _subtotals_statement(_register('stock'), %s) || ' ORDER BY 1, 2, 3, 4'", days)
    for statement in (mending, folding):
        keys = next(line for (line,) in kept.rows(f"EXPLAIN {statement}") if "Sort Key" in line).split(", ")
        assert ["COLLATE" in key for key in keys[:2]] == [True, True], keys


def test_an_older_snapshot_reads_what_was_there(kept: Shop) -> None:
    """A reader that began before subtotals were given up goes on with them, and finds them all."""
    question = "SELECT stock_balance('{\"warehouse\": 1}', '2026-06-30')"
    with kept.connect(autocommit=False) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before = reader.execute(question).fetchall()
        kept.rows("SELECT register_alter('stock', subtotals => '[]')")
        kept.post(element("s", "2026-01-05", 1, "x", quantity=100))
        assert reader.execute(question).fetchall() == before
    assert kept.rows(KEPT) == []
    assert kept.ask(question)["quantity"] == before[0][0]["quantity"] + 100


def test_who_writes_and_reads_is_no_victim_of_a_change(kept: Shop) -> None:
    """Nobody's movements are waited for with views in hand: readers go on, and who has written reads on."""
    question = 'SELECT stock_balance(\'{"warehouse": 1, "lot": "x"}\')'
    with kept.connect(autocommit=False) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("INSERT INTO stock_movements (recorder, period, warehouse) VALUES ('w', '2026-01-05', 1)")
        changing = pool.submit(kept.rows, "SELECT register_alter('stock', subtotals => '[\"lot\"]')")
        with kept.connect() as other:
            while not other.execute("SELECT 1 FROM pg_locks WHERE NOT granted AND locktype = 'relation'").fetchall():
                assert not changing.done()
            assert other.execute(question).fetchall() == writer.execute(question).fetchall()
        writer.commit()
        changing.result()
    assert kept.problems() == []


def test_a_deletion_that_waits_to_be_folded_is_taken_off_once(kept: Shop) -> None:
    """Whoever defers folding and has sums made anew in the same transaction."""
    with kept.connect(autocommit=False) as session:
        session.execute("SET LOCAL tallystream.defer_fold = 'on'")
        session.execute("DELETE FROM stock_movements WHERE warehouse = 1")
        session.execute("SELECT register_alter('stock', subtotals => '[\"lot\", \"warehouse\"]')")
        session.execute("DELETE FROM stock_movements WHERE warehouse = 2")
        session.execute(REBUILD.encode())
    assert kept.problems() == []


def test_what_somebody_else_calls_so_is_left_alone(shop: Shop) -> None:
    """A view or a table with the name that the table of subtotals would have is no part of the register."""
    for kind in ("TABLE", "VIEW"):
        shop.rows(f"CREATE {kind} stock_subtotals AS SELECT 1 AS warehouse")
        shop.rows("SELECT register_alter('stock', add_resources => %s)", {f"more_{kind.lower()}": "int"})
        assert shop.rows(REBUILD) == [(0, 0)]
        assert shop.problems() == []
        assert shop.refusal("SELECT register_alter('stock', subtotals => '[\"lot\"]')")[0] == "42P07"
        shop.rows("SELECT register_drop('stock', true)")
        assert shop.rows("SELECT * FROM stock_subtotals") == [(1,)]
        shop.rows(f"DROP {kind} stock_subtotals")
        shop.create("stock")


def test_balances_of_now_are_read_where_there_is_one_for_each_cell(kept: Shop) -> None:
    """A value's years are added up only where one value is asked for."""
    for dimensions, expected in ((None, 63), ({"warehouse": 1}, 15)):
        assert kept.ask("SELECT stock_balance(%s)", dimensions)["quantity"] == expected
    kept.rows("ALTER TABLE stock_subtotals DISABLE TRIGGER guard")
    kept.rows("DELETE FROM stock_subtotals")
    assert kept.ask("SELECT stock_balance()")["quantity"] == 63
    assert len(kept.rows("SELECT stock_balance_by('[\"warehouse\"]')")) == 3
    assert kept.ask("SELECT stock_balance(%s)", {"warehouse": 1})["quantity"] == 0


def test_null_changes_nothing(kept: Shop) -> None:
    """As everything that register_alter() is not given, in SQL and in JSON."""
    for nothing in ("NULL", "'null'"):
        kept.rows(f"SELECT register_alter('stock', subtotals => {nothing})")
        assert kept.ask("SELECT register_info('stock') -> 'subtotals'") == ["warehouse"]


def test_new_columns_come_into_them(kept: Shop) -> None:
    """A new dimension is null and changes keys, a new resource is zero."""
    kept.rows("SELECT register_alter('stock', %s, %s)", {"colour": "text"}, {"pieces": "int"})
    assert kept.problems() == []
    kept.rows("SELECT register_alter('stock', %s, subtotals => %s)", {"size": "text"}, ["size", "warehouse"])
    kept.post({**element("s", "2026-01-05", 1, "x", pieces=3), "colour": "red", "size": "XL"})
    assert kept.ask("SELECT stock_balance(%s)", {"size": "XL"})["pieces"] == 3
    assert kept.ask("SELECT stock_balance(%s)", {"size": None})["quantity"] == 63
    assert kept.problems() == []


def test_the_sum_of_many_cells_may_outgrow_theirs(shop: Shop) -> None:
    """Cells keep bigint; no movement is refused because the sum of several cells needs more."""
    columns = [{"name": "one", "type": "int"}, {"name": "two", "type": "int"}]
    shop.create("wide", columns, [{"name": "n", "type": "bigint"}], subtotals=Jsonb(["one"]))
    for two, n in enumerate((GREATEST, GREATEST, LEAST)):
        shop.post({"recorder": f"r{two}", "period": "2026-01-05", "one": 1, "two": two, "n": n}, "wide")
    assert Decimal(shop.ask("SELECT wide_balance('{\"one\": 1}')")["n"]) == 2 * GREATEST + LEAST
    shop.rows("SELECT register_alter('wide', add_resources => %s)", {"m": "bigint"})
    for two in (3, 4):
        shop.post({"recorder": f"s{two}", "period": "2026-01-05", "one": 1, "two": two, "m": GREATEST}, "wide")
    assert Decimal(shop.ask("SELECT wide_balance('{\"one\": 1}')")["m"]) == 2 * GREATEST
    assert shop.problems("wide") == []


@pytest.mark.parametrize(
    ("subtotals", "message"),
    [
        ("warehouse", "subtotals must be an array of dimension names"),
        ([1], "subtotals must be an array of dimension names"),
        (["quantity"], "subtotals of quantity, which is no dimension of it"),
        (["lot", "warehouse", "lot"], "subtotals name a dimension twice"),
    ],
)
def test_what_cannot_be_is_refused(shop: Shop, subtotals: object, message: str) -> None:
    """By the names of the register and of what is wrong."""
    alter = "SELECT register_alter('stock', subtotals => %s)"
    assert shop.refusal(alter, Jsonb(subtotals)) == ("TS003", f"register stock: {message}")


def test_a_register_goes_with_its_subtotals(kept: Shop) -> None:
    """Nothing is left of them, and the name can be used again."""
    kept.rows("SELECT register_drop('stock', true)")
    assert kept.ask("SELECT to_regclass('stock_subtotals')") is None
    kept.create("stock", subtotals=Jsonb(["lot"]))
    assert kept.problems() == []
