"""The read functions: any range against a naive sum of the movements, groups, filters, pages, and their errors."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from psycopg.types.json import Jsonb

from tests.support.registers import Shop, element

# Clocks go back from 01:00 to 00:00 here, in 2026 on the first day of a month: that midnight comes twice.
ZONE = ZoneInfo("America/Havana")
TURNOVER = "SELECT t FROM {}_turnover(%s, %s, %s, %s) AS t"
INSTANTS = "SELECT t FROM {}_turnover_between_instants(%s, %s, %s) AS t"
CELLS = "SELECT coalesce(sum(quantity), 0) FROM {}"
MOVEMENTS = "SELECT m FROM {}_movements(NULL, %s, %s) AS m"
COVER = "SELECT * FROM _cover(string_to_array(%s, ' '), %s, %s)"
BALANCE = "SELECT {}_balance(%s, %s)"

Rows = list[tuple[datetime, int, str | None, Decimal]]


def some_movements(choice: random.Random) -> Rows:
    """Movements over four years, many at the edges of days, months and years, or in an hour that comes twice."""
    edges = [
        datetime(year, month, 1, tzinfo=ZONE) + timedelta(microseconds=shift)
        for year in range(2024, 2028)
        for month in (1, 2, 11)
        for shift in (-1, 0)
    ]
    twice = [datetime(2026, 11, 1, 4, minute, tzinfo=UTC) for minute in (0, 30)]
    twice += [datetime(2026, 11, 1, 5, minute, tzinfo=UTC) for minute in (0, 30)]
    anywhere = [datetime(2024, 1, 1, tzinfo=UTC) + timedelta(minutes=choice.randrange(4 * 525_600)) for _ in range(150)]
    return [
        (at, choice.randint(1, 3), choice.choice(["a", "b", None]), Decimal(choice.randint(-900, 900)) / 100)
        for at in edges + twice + anywhere
    ]


def total(rows: Rows) -> Decimal:
    """What all these movements add up to."""
    return sum((quantity for _, _, _, quantity in rows), Decimal(0))


def local_day(at: datetime) -> date:
    """The day of an instant, as the register sees it."""
    return at.astimezone(ZONE).date()


@pytest.mark.parametrize("subtotals", [[], ["warehouse", "lot"]], ids=["plain", "subtotals"])
@pytest.mark.parametrize("totals_period", ["day", "month", "year"])
def test_any_range_is_the_sum_of_its_movements(
    shop: Shop, totals_period: str, subtotals: list[str], rng: random.Random
) -> None:
    """Partial months, across years, open ends, one day, none; whole and grouped, filtered, and by instants."""
    name = f"by_{totals_period}"
    kept = Jsonb(subtotals)
    shop.create(name, time_zone=ZONE.key, totals_period=totals_period, partition_by="quarter", subtotals=kept)
    movements = some_movements(rng)
    shop.post([element("r", str(at), warehouse, lot, quantity=str(q)) for at, warehouse, lot, q in movements], name)
    for first, last in some_ranges(rng):
        within = [
            m for m in movements if (not first or first <= local_day(m[0])) and (not last or local_day(m[0]) <= last)
        ]
        assert quantity(shop.ask(TURNOVER.format(name), first, last, None, None)) == total(within), (first, last)
        unlabelled = [m for m in within if m[2] is None]
        filtered = shop.ask(TURNOVER.format(name), first, last, {"lot": None}, None)
        assert quantity(filtered) == total(unlabelled), (first, last)
        groups = {
            row["warehouse"]: quantity(row)
            for (row,) in shop.rows(TURNOVER.format(name), first, last, None, ["warehouse"])
        }
        expected = {w: total([m for m in within if m[1] == w]) for w in (1, 2, 3)}
        assert groups == {w: value for w, value in expected.items() if value}, (first, last)
        cells = shop.ask(CELLS.format(f"{name}_turnover_between(%s, %s)"), first, last)
        assert cells == total(within)
        if last:
            until = [m for m in movements if local_day(m[0]) <= last]
            assert quantity(shop.ask(BALANCE.format(name), None, last)) == total(until), last
            assert shop.ask(CELLS.format(f"{name}_balance_at(%s)"), last) == total(until)
        listed = shop.rows(MOVEMENTS.format(name), first, last)
        assert len(listed) == len(within)
    check_instants(shop, name, movements, rng)


def check_instants(shop: Shop, name: str, movements: Rows, choice: random.Random) -> None:
    """Both ends are included, to the microsecond."""
    for _ in range(15):
        start, end = (choice.choice(movements)[0] + timedelta(microseconds=choice.choice([-1, 0, 1])) for _ in range(2))
        within = [m for m in movements if start <= m[0] <= end]
        assert quantity(shop.ask(INSTANTS.format(name), start, end, None)) == total(within), (start, end)
        until = [m for m in movements if m[0] <= end]
        assert quantity(shop.ask(f"SELECT {name}_balance_at_instant(%s)", end)) == total(until), end
        assert quantity(shop.ask(INSTANTS.format(name), None, end, None)) == total(until), end
    assert quantity(shop.ask(INSTANTS.format(name), None, None, None)) == total(movements)


def some_ranges(choice: random.Random) -> list[tuple[date | None, date | None]]:
    """Ranges that are known to be difficult, and others."""

    def day() -> date:
        return date(2023, 12, 1) + timedelta(days=choice.randrange(1500))

    fixed: list[tuple[date | None, date | None]] = [
        (None, None),
        (date(2026, 11, 1), date(2026, 11, 1)),
        (date(2026, 10, 31), date(2026, 10, 31)),
        (date(2025, 1, 1), date(2025, 12, 31)),
        (date(2025, 12, 31), date(2026, 1, 1)),
        (date(2026, 5, 2), date(2026, 5, 1)),
    ]
    return fixed + [(choice.choice([day(), None]), choice.choice([day(), day(), None])) for _ in range(10)]


@pytest.mark.parametrize("grains", ["day month year", "month year", "year"])
def test_ranges_cover_every_day_once(shop: Shop, grains: str, rng: random.Random) -> None:
    """What is taken off has been added before, and ranges of days are short."""
    first = date(2024, 1, 1)
    signs = set()
    for _ in range(40):
        start, end = sorted(first + timedelta(days=rng.randrange(1000)) for _ in range(2))
        times: dict[date, int] = {}
        for grain, starts, ends, sign in shop.rows(COVER, grains, start, end):
            signs.add((grain, sign))
            assert grain != "day" or (ends - starts).days < 62
            for day in range((ends - starts).days):
                at = starts + timedelta(days=day)
                times[at] = times.get(at, 0) + (-1 if sign else 1)
        covered = sorted(day for day, count in times.items() if count)
        assert covered == [start + timedelta(days=day) for day in range((end - start).days)]
        assert set(times.values()) <= {0, 1}
    assert any(sign for _, sign in signs)


def test_the_least_number_can_be_taken_off(shop: Shop) -> None:
    """It has no opposite of its own type."""
    shop.create("tally", resources=[{"name": "quantity", "type": "bigint"}, {"name": "amount", "type": "bigint"}])
    least = element("r", "2026-03-30", 1, "a", quantity=-(2**63))
    shop.post([element("r", "2026-03-02", 1, "a", quantity=7), least], "tally")
    for given in ({}, {"warehouse": 1}, {"warehouse": 1, "lot": "a"}):
        assert shop.ask("SELECT tally_balance(%s, '2026-03-29')", given)["quantity"] == 7


def test_balances_by_group_now_and_then(shop: Shop) -> None:
    """One object per group that is not zero, in the order of the dimensions; the filter applies before."""
    shop.post(
        [
            element("r", "2026-01-05", 1, "x", quantity=1),
            element("r", "2026-02-05", 1, None, quantity=2),
            element("r", "2026-03-05", 2, None, quantity=4),
            element("r", "2026-03-05", 3, None, quantity=0),
        ]
    )
    by = "SELECT b FROM stock_balance_by(%s, %s, %s) AS b"

    def groups(*parameters: object) -> list[tuple[Any, ...]]:
        return [(row.get("warehouse"), row.get("lot"), float(row["quantity"])) for (row,) in shop.rows(by, *parameters)]

    assert groups(["warehouse"], None, None) == [(1, None, 3.0), (2, None, 4.0)]
    assert groups(["lot", "warehouse"], None, None) == [(1, "x", 1.0), (1, None, 2.0), (2, None, 4.0)]
    assert groups(["warehouse"], {"lot": None}, None) == [(1, None, 2.0), (2, None, 4.0)]
    assert groups(["warehouse"], None, date(2026, 2, 5)) == [(1, None, 3.0)]
    assert groups([], None, date(2025, 1, 1)) == [(None, None, 0.0)]
    assert shop.ask("SELECT stock_balance()") == {"amount": 0, "quantity": 7}


def test_movements_come_page_by_page(shop: Shop) -> None:
    """Each page goes on after the last row of the one before; together they are everything, in order."""
    shop.post([element(f"r{n % 3}", f"2026-0{1 + n % 4}-05", n % 2, "x", quantity=n) for n in range(25)])
    everything = [row["id"] for (row,) in shop.rows("SELECT m FROM stock_movements() AS m")]
    paged: list[int] = []
    after: tuple[object, object] = (None, None)
    page = "SELECT m FROM stock_movements(NULL, NULL, NULL, NULL, %s, %s::timestamptz, %s) AS m"
    while rows := [row for (row,) in shop.rows(page, 7, *after)]:
        assert len(rows) <= 7
        paged += [row["id"] for row in rows]
        after = (rows[-1]["period"], rows[-1]["id"])
    assert (len(paged), paged) == (25, everything)
    assert len(shop.rows("SELECT stock_movements('r1', '2026-02-05', '2026-03-05', '{\"warehouse\": 1}', 2)")) == 2
    assert shop.refusal("SELECT stock_movements(p_limit => -1)")[0] == "TS011"
    assert shop.refusal("SELECT stock_movements(p_after_id => 1)")[0] == "TS011"


@pytest.mark.parametrize(
    "function", ["stock_balance(%s)", "stock_turnover(NULL, NULL, %s)", "stock_movements(NULL, NULL, NULL, %s)"]
)
def test_a_filter_that_cannot_be_meant_is_refused(shop: Shop, function: str) -> None:
    """Unknown names, values of another type, and anything but an object; null and {} filter nothing."""
    for wrong in (
        {"lots": "x"},
        {"warehouse": "x"},
        {"warehouse": 1.5},
        {"lot": ["x"]},
        {"lot": {"a": 1}},
        ["lot"],
        [],
    ):
        assert shop.refusal(f"SELECT {function}", wrong)[0] == "TS011", wrong
    for harmless in ({}, {"lot": "'; DROP TABLE stock_movements; --"}, {"lot": "$1"}, {"lot": None}):
        shop.rows(f"SELECT {function}", harmless)
    shop.rows(f"SELECT {function.replace('%s', 'NULL')}")


def test_groups_that_do_not_exist_are_refused(shop: Shop) -> None:
    """The error names the dimension, and the hint those that there are."""
    for wrong in (["lots"], [1], {"lot": 1}, "lots", [None]):
        for function in ("stock_turnover(group_by => %s)", "stock_balance_by(%s)"):
            assert shop.refusal(f"SELECT {function}", _json(wrong))[0] == "TS011", wrong


def quantity(row: dict[str, Any]) -> Decimal:
    """The quantity in a result object."""
    return Decimal(str(row["quantity"]))


def _json(value: object) -> object:
    return f'"{value}"' if isinstance(value, str) else value
