"""The balance of one cell is read in a short way where it is given plainly: the same numbers and the same refusals."""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.support.registers import RESOURCES, Shop

SHORT = "SELECT {}_balance(%s, %s)"
GENERAL = "SELECT b FROM _read_balance('{}', %s, %s, NULL) AS b"

# A dimension may have the name of the function's own parameter.
DIMENSIONS = [
    {"name": "dimensions", "type": "int"},
    {"name": "small", "type": "smallint"},
    {"name": "big", "type": "bigint"},
    {"name": "lot", "type": "text"},
    {"name": "grade", "type": "varchar(3)"},
    {"name": "open", "type": "boolean"},
    {"name": "owner", "type": "uuid"},
]
VALUES: dict[str, list[object]] = {
    "dimensions": [1, -2, 2147483647, None],
    "small": [0, -9999, 32767, None],
    "big": [1, 2**40, -(2**63), None],
    "lot": ["", "a", "A", "ä\\'$1 {c}", None],
    "grade": ["", "abc", None],
    "open": [True, False, None],
    "owner": ["3f2504e0-4f89-11d3-9a0c-0305e82c3301", None],
}
# None of these is plainly a value of the first dimension.
ODD = [1.0, 1.5, "1", " 1", "1e0", "0x1", "", "NaN", 2**31, -(2**31), 2**70, True, [1], {"a": 1}, "1; DROP TABLE x"]
ODD_DATES = ["-infinity", "infinity", "0001-01-01", "0044-03-15 BC", "9999-12-31", "10000-01-01", None]


def some_cell(choice: random.Random) -> dict[str, object]:
    """One of a few cells, so that movements meet."""
    return {name: choice.choice(values[:2] + values[-1:]) for name, values in VALUES.items()}


@pytest.mark.parametrize("options", [{}, {"totals_period": "month"}, {"high_write": True}], ids=str)
def test_the_short_way_is_the_general_way(shop: Shop, rng: random.Random, options: dict[str, object]) -> None:
    """For cells of every type with and without nulls, now and at any date: the sum of the cell's movements."""
    shop.create("cells", DIMENSIONS, RESOURCES, time_zone="UTC", partition_by="year", **options)
    start = datetime(2024, 12, 1, tzinfo=UTC)
    moved = [
        (some_cell(rng), start + timedelta(hours=rng.randrange(900 * 24)), Decimal(rng.randint(-999, 999)) / 10)
        for _ in range(120)
    ]
    shop.post(
        [{"recorder": "r", "period": at.isoformat(), "quantity": str(q), **cell} for cell, at, q in moved], "cells"
    )
    cells = [cell for cell, _, _ in moved] + [some_cell(rng) for _ in range(20)]
    for cell in rng.sample(cells, 60):
        day = date(2024, 11, 1) + timedelta(days=rng.randrange(1000))
        for at in (None, day, day.replace(day=1), day.replace(day=1) - timedelta(days=1), date(day.year, 12, 31)):
            expected = sum(
                (q for other, when, q in moved if other == cell and (at is None or when.date() <= at)), Decimal(0)
            )
            short = shop.ask(SHORT.format("cells"), cell, at)
            assert Decimal(str(short["quantity"])) == expected, (cell, at)
            assert short == shop.ask(GENERAL.format("cells"), cell, at), (cell, at)
    for odd in ODD_DATES:
        assert outcome(shop, SHORT, moved[0][0], odd) == outcome(shop, GENERAL, moved[0][0], odd), odd


def test_what_is_not_plain_is_judged_as_ever(shop: Shop) -> None:
    """Odd values, keys that are missing or too many, and what is no object: the same answer, or the same refusal."""
    shop.create("cells", DIMENSIONS, RESOURCES, time_zone="UTC")
    cell = {name: values[0] for name, values in VALUES.items()}
    shop.post({"recorder": "r", "period": "2026-04-18T10:00:00Z", "quantity": "5", **cell}, "cells")
    asked: list[object] = [{**cell, name: odd} for name in VALUES for odd in ODD]
    asked += [{**cell, name: value} for name, values in VALUES.items() for value in values]
    asked += [{key: value for key, value in cell.items() if key != name} for name in VALUES]
    asked += [{**cell, "colour": 1}, {}, [], [cell], None]
    refused = 0
    for dimensions in asked:
        short = outcome(shop, SHORT, dimensions)
        assert short == outcome(shop, GENERAL, dimensions), dimensions
        refused += isinstance(short, tuple)
    assert 20 < refused < len(asked) - 20


def test_types_that_need_a_second_look_are_read_all_the_same(shop: Shop) -> None:
    """A register with such a dimension has no short way."""
    shop.create("dated", [{"name": "due", "type": "date"}, {"name": "rate", "type": "numeric(6,2)"}], RESOURCES)
    shop.post({"recorder": "r", "period": "2026-04-18T10:00:00Z", "due": "2026-02-28", "rate": 1.5}, "dated")
    for day in ("2026-02-28", "2026-02-30", "28.2.2026"):
        given = {"due": day, "rate": "1.50"}
        assert outcome(shop, SHORT, given, register="dated") == outcome(shop, GENERAL, given, register="dated")


def outcome(
    shop: Shop, statement: str, dimensions: object, at: object = None, register: str = "cells"
) -> dict[str, object] | tuple[str | None, str]:
    """What comes back, or how it is refused."""
    statement = statement.format(register)
    refusal = shop.refusal(statement, dimensions, at)
    return shop.ask(statement, dimensions, at) if refusal[0] is None else refusal
