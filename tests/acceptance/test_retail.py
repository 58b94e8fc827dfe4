"""Half a million lines of a real shop, through a real topic and two workers that are killed again and again."""

import json
import random
from collections.abc import Iterator, Mapping

import pytest

from tests.support.postgres import Database
from tests.support.program import small_batches
from tests.support.retail import REGISTER, Shop, first_stream, same, second_stream
from tests.support.stream import Stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CELLS = 272_389
QUANTITY = 5_176_450
THOUSANDTHS = 9_747_747_934
DUPLICATES = 0.05

# How many characters of the local time tell the periods apart, and the period of a row in the same form.
TABLES: Mapping[str, tuple[int, str]] = {
    "sales_balance_cache": (0, "''"),
    "sales_totals_day": (10, "to_char(period, 'YYYY-MM-DD')"),
    "sales_totals_month": (7, "to_char(period, 'YYYY-MM')"),
    "sales_totals_year": (4, "to_char(period, 'YYYY')"),
}


def test_the_retail_data(stream: Stream, retail: Shop, rng: random.Random) -> None:
    """Exactly the known sums, after seven kills; then corrections, duplicates and three kills more; then a replay."""
    stream.declare(REGISTER)
    events = first_stream(retail)
    stream.worker()
    stream.worker()
    stream.kill_while_reading(keyed(events), rng, 7)
    stream.wait_until_read()
    assert known_sums(stream.database) == (CELLS, QUANTITY, THOUSANDTHS)
    assert retail.cells() == CELLS
    compare(stream.database, retail)
    assert stream.counts() == {"applied": len(events), "duplicates": 0, "stale": 0, "dead_letters": 0}

    # Two thousand corrections in batches that make them last, so that kills find something to do.
    stream.stop()
    stream.extra |= small_batches(10)
    corrections = second_stream(retail)
    again = rng.sample(events + corrections, int(len(events + corrections) * DUPLICATES))
    stream.worker()
    stream.worker()
    stream.kill_while_reading(keyed(mixed(corrections, again, rng)), rng, 3)
    stream.wait_until_read()
    compare(stream.database, retail)
    events += corrections
    expected = {"applied": len(events), "duplicates": len(again), "stale": 0, "dead_letters": 0}
    assert stream.counts() == expected

    stream.stop()
    for name in small_batches(10):
        del stream.extra[name]
    before = contents(stream.database)
    stream.produce(events)
    stream.worker()
    stream.worker()
    stream.wait_until_read()
    assert contents(stream.database) == before
    assert stream.counts() == expected | {"duplicates": len(again) + len(events)}
    stream.wait_until_mirrored()
    stream.stop()


def mixed(events: list[bytes], again: list[bytes], rng: random.Random) -> list[bytes]:
    """The events in their order, the others anywhere among them, but none before what it repeats."""
    places = {event: number for number, event in enumerate(events)}
    keyed = [(float(number), event) for number, event in enumerate(events)]
    keyed += [(rng.uniform(places.get(event, 0), len(events)), event) for event in again]
    return [event for _, event in sorted(keyed, key=lambda pair: pair[0])]


def keyed(events: list[bytes]) -> list[tuple[bytes, bytes]]:
    """The events with their recorders as keys."""
    return [(json.loads(event)["recorder"].encode(), event) for event in events]


def known_sums(database: Database) -> tuple[int, ...]:
    """Cells, quantity, and thousandths of amount."""
    with database.connect() as connection:
        [row] = connection.execute(
            "SELECT count(*), sum(quantity), (sum(amount) * 1000)::bigint FROM accum.sales_balance_cache"
        ).fetchall()
    return tuple(map(int, row))


def compare(database: Database, shop: Shop) -> None:
    """Every balance, day, month and year; a row of zeros is as good as none."""
    for table, (length, period) in TABLES.items():
        assert not same(rows(database, table, period), shop.sums(length)), table


def rows(database: Database, table: str, period: str) -> Iterator[tuple[object, ...]]:
    """Period, cell, quantity and thousandths of amount of what did not come to nothing."""
    query = (
        f"SELECT {period}, stock_code, country, customer, quantity::bigint, (amount * 1000)::bigint"  # noqa: S608
        f" FROM accum.{table} WHERE quantity <> 0 OR amount <> 0"
    )
    with database.connect() as connection, connection.cursor() as cursor:
        yield from cursor.stream(query.encode(), size=10_000)


def contents(database: Database) -> list[object]:
    """One number for each table: whatever changes in a row changes it."""
    tables = ["sales_movements", "sales_recorders", *TABLES]
    with database.connect() as connection:
        return [
            connection.execute(
                f"SELECT count(*), sum(hashtextextended(t::text, 0)) FROM accum.{table} AS t".encode()  # noqa: S608
            ).fetchone()
            for table in tables
        ]
