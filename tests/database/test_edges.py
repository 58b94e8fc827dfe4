"""The edges of the SQL contract: odd names, odd values, odd instants, and hands that try to slip SQL in."""

import json
from collections.abc import Iterator
from datetime import date, timedelta
from string import ascii_lowercase
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.support.postgres import Database
from tests.support.registers import RESOURCES, Shop, element

FIRST, DAYS = date(2024, 11, 1), 500
EVIL = [
    "x'; DROP TABLE accum._registers; --",
    'x"; DROP TABLE accum._registers; --',
    "x); DROP TABLE accum._registers; --",
    "{dimensions}",
    "{c}",
    "%s",
    "%I",
    "$1",
    "$read$",
    "\\",
    "\n",
    "É",
    "a b",
    "a-b",
    "A",
    "1a",
    "",
    "pg_catalog.int4",
    "int; SELECT 1",
    "numeric(18,3); SELECT 1",
    "text COLLATE pg_catalog.default",
    "text DEFAULT pg_sleep(1)",
]


@pytest.fixture(scope="module")
def months(shop_database: Database) -> Iterator[Shop]:
    """The register `months`: a movement every other day, over two ends of a year, of quantities that tell the day."""
    made = Shop(shop_database)
    made.create("months", time_zone="America/Havana")
    made.post(
        [element("r", f"{FIRST + timedelta(days=n)}", n % 3, "x", quantity=n) for n in range(0, DAYS, 2)], "months"
    )
    yield made
    made.clear()


def some_day() -> st.SearchStrategy[date | None]:
    """A day of the register or beyond, more often one at which a month begins or ends; or an open end."""
    days = st.integers(-40, DAYS + 40).map(lambda n: FIRST + timedelta(days=n))
    firsts = days.map(lambda day: day.replace(day=1))
    return st.one_of(st.none(), days, firsts, firsts.map(lambda day: day - timedelta(days=1)))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(first=some_day(), last=some_day(), warehouse=st.sampled_from([None, 0, 1, 2, 9]))
def test_any_range_is_what_a_naive_sum_says(
    months: Shop, first: date | None, last: date | None, warehouse: int | None
) -> None:
    """Partial months, across years, with open ends, one day, ends before their beginnings: turnover and balance."""

    def naive(start: date | None, end: date | None) -> int:
        return sum(
            n
            for n in range(0, DAYS, 2)
            if (start is None or start <= FIRST + timedelta(days=n))
            and (end is None or FIRST + timedelta(days=n) <= end)
            and warehouse in {None, n % 3}
        )

    dimensions = None if warehouse is None else {"warehouse": warehouse}
    turnover, balance = months.rows(
        "SELECT (months_turnover(%s, %s, %s) -> 'quantity')::int, (months_balance(%s, %s) -> 'quantity')::int",
        *(first, last, dimensions, dimensions, last),
    )[0]
    assert (turnover, balance) == (naive(first, last), naive(None, last))


@pytest.mark.scenario("X9")
@pytest.mark.parametrize("style", ["ISO, YMD", "SQL, DMY", "German", "Postgres, MDY"])
def test_cells_are_told_apart_by_type_and_value(shop: Shop, style: str) -> None:
    """A separator in a text, null and the text null, 1.0 and 1.00, a date in any DateStyle; posted, found, removed."""
    columns = {"one": "text", "two": "text", "n": "numeric(6,2)", "made_on": "date"}
    shop.create("odd", [{"name": name, "type": kind} for name, kind in columns.items()], RESOURCES)
    cells: list[tuple[Any, ...]] = [
        ("a|", "b", 1, "2026-01-02"),
        ("a", "|b", 1, "2026-01-02"),
        ("a|b", None, 1, "2026-01-02"),
        ("a|b", "", 1, "2026-01-02"),
        ("a|b", "null", 1, "2026-01-02"),
        (None, "null", 1, "2026-01-02"),
        ("null", None, 1, "2026-01-02"),
        (None, None, None, None),
        ("a", "b", 1, "2026-02-01"),
        ("a", "b", 1, "2026-01-02"),
        ("a", "b ", 1, "2026-01-02"),
        ("A", "b", 1, "2026-01-02"),
        ("a", "b", -1, "2026-01-02"),
        ("a", "b", -1.5, "2026-01-02"),
        ("a", "b", 1.5, "2026-01-02"),
    ]
    data = [
        {"recorder": "r", "period": "2026-01-05", **dict(zip(columns, cell, strict=True)), "quantity": 2**n}
        for n, cell in enumerate(cells)
    ]
    with shop.connect() as session:
        session.execute("SELECT set_config('DateStyle', %s, false)", [style])
        again = [{**each, "n": None if each["n"] is None else f"{each['n']:.2f}"} for each in data]
        for posted in (data, again):
            session.execute("SELECT register_post('odd', %s::jsonb)", [json.dumps(posted)])
        for n, cell in enumerate(cells):
            sought = json.dumps(dict(zip(columns, cell, strict=True)))
            found = session.execute("SELECT (odd_balance(%s::jsonb) -> 'quantity')::numeric", [sought]).fetchone()
            assert found == (2 * 2**n,), cell
    assert shop.ask("SELECT count(*) FROM odd_balance_cache") == len(cells)
    assert shop.problems("odd") == []
    assert shop.unpost("r", "odd") == 2 * len(cells)
    assert shop.rows("SELECT * FROM odd_balances") == []
    assert shop.problems("odd") == []


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        ("bigint", [1, 2**32, -1, 2**32 - 1, 2**33, 2, -(2**63), 2**63 - 1, 0, None]),
        ("numeric(20,2)", [1, -1, "1.5", "-1.5", 10000, -10000, 0, "0.01", "-0.01", None]),
        ("timestamptz", [f"2000-01-01T00:00:00.00000{n}Z" for n in (0, 1, 2)]),
        ("timestamptz", ["2000-01-01T00:00:00.000001Z", "2000-01-01T01:11:34.967296Z", "1999-12-31T23:59:59.999999Z"]),
        ("int", [1, -1, 0, 2**31 - 1, -(2**31), None]),
        ("date", ["2000-01-01", "2000-01-02", "1999-12-31", None]),
        ("boolean", [True, False, None]),
    ],
)
def test_values_that_hash_alike_in_postgresql_are_cells_of_their_own(shop: Shop, kind: str, values: list[Any]) -> None:
    """Big numbers, negative ones and instants have keys of their own; PostgreSQL's hashes of them alone would meet."""
    shop.create("wide", [{"name": "d", "type": kind}], RESOURCES)
    data = [{"recorder": "r", "period": "2026-01-05", "d": value, "quantity": 2**n} for n, value in enumerate(values)]
    shop.post(data, "wide")
    for n, value in enumerate(values):
        assert shop.ask("SELECT (wide_balance(%s) -> 'quantity')::int", {"d": value}) == 2**n, value
    assert len({key for (key,) in shop.rows("SELECT dim_hash FROM wide_balances")}) == len(values)
    assert shop.problems("wide") == []


def test_a_row_of_zeros_is_no_row(shop: Shop) -> None:
    """After an unpost the rows stay for the next time, and nobody sees them: no view, no answer, no verification."""
    shop.post([element("r", "2026-01-05", n, "x", quantity=n, amount=-n) for n in range(1, 4)])
    shop.unpost("r")
    assert shop.ask("SELECT count(*) FROM stock_balance_cache") == 3
    for view in ("stock_balances", "stock_turnovers_day", "stock_turnovers_month", "stock_turnovers_year"):
        assert shop.rows(f"SELECT * FROM {view}") == [], view  # noqa: S608 - a name of the contract
    for function in ("stock_balance_at('2026-01-05')", "stock_turnover_between('2026-01-05', '2026-01-05')"):
        assert shop.rows(f"SELECT * FROM {function}") == [], function  # noqa: S608 - the same
    assert shop.rows("SELECT stock_turnover('2026-01-01', NULL, NULL, '[\"warehouse\"]')") == []
    assert shop.ask("SELECT stock_balance('{\"warehouse\": 1}')") == {"amount": 0, "quantity": 0}
    assert {status for (status,) in shop.rows("SELECT status FROM register_verify('stock')")} == {"OK"}
    assert shop.rows("SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')") == [(0, 0)]


@pytest.mark.scenario("P12")
def test_movements_at_the_ends_of_time_have_no_partition(shop: Shop) -> None:
    """A plain INSERT far in the past or the future is refused, and makes no partition; so is a post."""
    for period in ("4713-01-01 BC", "1999-12-31", "2100-01-02", "9999-12-31", "294276-12-31", "infinity", "-infinity"):
        insert = f"INSERT INTO stock_movements (recorder, period) VALUES ('r', '{period} 00:00+00')"  # noqa: S608
        insert = insert if "infinity" not in period else insert.replace(" 00:00+00", "")
        assert shop.refusal(insert)[0] == "23514", period
    for period in ("0001-01-01", "1999-12-31", "2100-01-01", "9999-12-31"):
        assert shop.refusal("SELECT register_post('stock', %s)", element("r", period, 1, "x"))[0] == "TS030", period
        assert shop.refusal("SELECT _ensure_partitions('stock', ARRAY[%s::date])", period)[0] == "TS030", period
    assert shop.rows("SELECT * FROM register_partitions('stock')") == []
    assert shop.post([element("r", "2000-01-01", 1, "x"), element("r", "2099-12-31", 1, "x")]) == 2
    assert shop.ask("SELECT count(*) FROM register_partitions('stock')") == 2


@pytest.mark.scenario("S1")
@pytest.mark.parametrize("high_write", [False, True])
def test_names_of_the_greatest_length(shop: Shop, *, high_write: bool) -> None:
    """Every derived name fits and is its own: two registers that differ in their last letter stay apart."""
    names = ["r" * 34 + last for last in "ab"]
    columns = ["d" * 63, "e" * 63]
    for name in names:
        dimensions = [{"name": columns[0], "type": "int"}]
        resources = [{"name": columns[1], "type": "int"}]
        shop.create(name, dimensions, resources, partition_by="day", high_write=high_write)
    for amount, name in enumerate(names, start=1):
        movement = {"recorder": "r", "period": "2026-01-05", columns[0]: 1, columns[1]: amount}
        assert shop.post([movement, {**movement, "period": "2026-01-06"}], name) == 2
        assert shop.repost("s", {**movement, "recorder": "s", "period": "2020-01-05"}, name) == 1
        shop.rows("SELECT register_alter(%s, add_resources => %s)", name, {"f" * 63: "int"})
        assert len(shop.rows("SELECT * FROM register_detach_partitions(%s, now() - '2022-01-01')", name)) == 1
    for amount, name in enumerate(names, start=1):
        assert shop.ask(f"SELECT {name}_balance()") == {columns[1]: 3 * amount, "f" * 63: 0}
        assert shop.problems(name) == []
        shop.rows("SELECT register_drop(%s, true)", name)
    assert shop.ask("SELECT count(*) FROM pg_class WHERE relname LIKE 'rrrr%%'") == 0
    assert shop.ask("SELECT count(*) FROM pg_proc WHERE proname LIKE 'rrrr%%'") == 0
    assert shop.ask("SELECT count(*) FROM pg_type WHERE typname LIKE 'rrrr%%'") == 0
    for name in ("r" * 36, "r" * 64, "r" * 1000):
        code, text = shop.refusal('SELECT register_create(%s, \'{"d": "int"}\', \'{"r": "int"}\')', name)
        assert (code, "register name" in text) == ("TS002", True)


@pytest.mark.scenario("S1")
@pytest.mark.parametrize("letters", [ascii_lowercase, ascii_lowercase[::-1]])
@pytest.mark.parametrize("high_write", [False, True])
def test_columns_may_be_called_as_anything_in_our_statements(shop: Shop, letters: str, *, high_write: bool) -> None:
    """Statements have short names for tables and rows; a column of the same name is that column and nothing else."""
    names, numbers = letters[:13], letters[13:]
    shop.create(
        "letters",
        [{"name": letter, "type": "int"} for letter in names],
        [{"name": letter, "type": "numeric(9,2)"} for letter in numbers],
        high_write=high_write,
        subtotals=Jsonb([names[0], names[-1]]),
    )
    cells = [dict.fromkeys(names, value) | dict.fromkeys(numbers, 1 + value) for value in (0, 1)]
    shop.post([{"recorder": "1", "period": "2026-01-05", **cell} for cell in cells], "letters")
    shop.repost("1", [{"period": "2026-02-05", **cell} for cell in cells], "letters")
    asked = shop.ask("SELECT letters_balance(%s, '2026-02-05')", dict.fromkeys(names, 1))
    assert asked == dict.fromkeys(numbers, 2)
    assert shop.ask("SELECT letters_balance(%s)", {names[0]: 0}) == dict.fromkeys(numbers, 1)
    groups = shop.rows("SELECT t FROM letters_turnover('2026-02-01', NULL, NULL, %s) AS t", list(names[3:5]))
    assert [group for (group,) in groups] == [
        dict.fromkeys(names[3:5], value) | dict.fromkeys(numbers, 1 + value) for value in (0, 1)
    ]
    assert len(shop.rows("SELECT letters_movements('1', '2026-01-01', '2026-12-31', %s)", {names[1]: 1})) == 1
    assert len(shop.rows("SELECT * FROM letters_balance_at('2026-12-31')")) == 2
    shop.rows("SELECT register_rebuild_totals('letters'), register_rebuild_cache('letters')")
    shop.rows("SELECT _force_delta_merge()")
    assert shop.problems("letters") == []
    carry = "SELECT added, removed FROM _carry_movements('letters', false)"
    shop.rows("SELECT _begin_rebuild('letters', 'g', NULL, NULL)")
    assert [shop.rows(carry) for _ in range(2)] == [[(2, 0)], [(0, 0)]]
    shop.repost("1", [{"period": "2026-02-05", **cells[0], letter: 7} for letter in letters], "letters")
    assert [shop.rows(carry) for _ in range(2)] == [[(26, 2)], [(0, 0)]]
    assert shop.unpost("1", "letters") == 26
    assert [shop.rows(carry) for _ in range(2)] == [[(0, 26)], [(0, 0)]]
    assert shop.problems("letters") == []


@pytest.mark.scenario("S1")
@pytest.mark.parametrize("evil", EVIL)
def test_nothing_that_a_caller_says_becomes_sql(shop: Shop, evil: str) -> None:
    """As a name, a type or an option it is refused with an error of ours; as a value it is a value."""
    create = "SELECT register_create(%s, %s, %s, {} => %s)"
    good: list[Any] = ["other", {"d": "int"}, {"r": "int"}]
    wrong: list[list[Any]] = [[evil, *good[1:]]]
    wrong += [[good[0], {evil: "int"}, good[2]], [good[0], {"d": evil}, good[2]]]
    wrong += [[good[0], good[1], {evil: "int"}], [good[0], good[1], {"r": evil}]]
    for parameters in wrong:
        assert (shop.refusal(create.format("kind"), *parameters, "balance")[0] or "")[:2] == "TS", parameters
    for option in ("kind", "totals_period", "partition_by", "recorder_type", "time_zone"):
        assert (shop.refusal(create.format(option), *good, evil)[0] or "")[:2] == "TS", option
    for function in ("register_post", "register_unpost", "register_drop", "register_info", "register_verify"):
        more = ", '[]'" if function in {"register_post", "register_unpost"} else ""
        assert shop.refusal(f"SELECT {function}(%s{more})", evil)[0] == "TS001", function
    assert shop.refusal("SELECT register_alter('stock', add_resources => %s)", {evil: "int"})[0] in {"TS002", "TS003"}
    assert shop.refusal("SELECT stock_turnover(group_by => %s)", [evil])[0] == "TS011"
    assert shop.refusal("SELECT stock_turnover(dimensions => %s)", {evil: 1})[0] == "TS011"
    assert (
        shop.refusal("SELECT register_post('stock', %s)", {**element("r", "2026-01-05", 1, "x"), evil: 1})[0] == "TS013"
    )
    assert shop.refusal("SELECT register_post('stock', %s)", element("r", evil, 1, "x"))[0] == "TS014"
    assert shop.post(element(evil, "2026-01-05", 1, evil, quantity=1)) == 1
    assert shop.repost(evil, element(None, "2026-01-05", 1, evil, quantity=2)) == 1
    assert shop.ask("SELECT (stock_balance(%s) -> 'quantity')::int", {"lot": evil}) == 2
    assert [row["lot"] for (row,) in shop.rows("SELECT m FROM stock_movements(%s) AS m", evil)] == [evil]
    assert shop.unpost(evil) == 1
    assert [name for (name,) in shop.rows("SELECT name FROM register_list()")] == ["stock"]
