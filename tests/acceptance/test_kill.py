"""Workers that are killed in the middle of their work: the shop's books, kept by other means, still agree."""

import random
from datetime import date
from decimal import Decimal

import pytest

from ingest.demo.books import Books
from ingest.demo.shop import COLUMNS, INVENTORY, SALES, write_history
from tests.support.downloads import ROOT
from tests.support.stream import Stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DECLARATIONS = ROOT / "schema" / "registers" / "demo" / "shop.toml"
EVENTS = 5_000
KILLS = 4


@pytest.mark.scenario("W1")
def test_kill_9_changes_nothing(stream: Stream, rng: random.Random) -> None:
    """Four kills of two workers: every cell and day, every count of events, and Kafka's offsets are right."""
    # Small batches: a kill finds some committed, one under way, and many to come.
    stream.extra["TALLYSTREAM_BATCH_MAX_EVENTS"] = "10"
    history = write_history(rng.randrange(2**32), EVENTS)
    stream.declare(DECLARATIONS.read_text(encoding="utf-8"))
    stream.worker()
    stream.worker()
    stream.kill_while_reading([(event.key, event.value) for event in history.events], rng, KILLS)
    stream.wait_until_read()
    compare(stream, history.books)
    counts = stream.counts()
    assert sum(counts.values()) == len(history.events)
    assert (counts["duplicates"], counts["stale"]) == (history.books.duplicates, history.books.stale)
    assert counts["dead_letters"] == history.books.refused.total()
    stream.wait_until_mirrored()
    stream.stop()


def compare(stream: Stream, books: Books) -> None:
    """Every cell and day of both registers, and every balance."""
    for register in (INVENTORY, SALES):
        expected = {(str(day), *cell): sums for (day, cell), sums in books.turnovers(register).items()}
        assert sums_of(stream, register, "totals_day", "period") == expected
    found = sums_of(stream, INVENTORY, "balance_cache")
    assert found == dict(books.balances(INVENTORY, date.max))


def sums_of(
    stream: Stream, register: str, table: str, *first: str
) -> dict[tuple[str | None, ...], tuple[Decimal, ...]]:
    """The rows that did not come to nothing."""
    dimensions, resources = COLUMNS[register]
    columns = [*(f"{name}::text" for name in first), *dimensions, *resources]
    with stream.database.connect() as connection:
        rows = connection.execute(
            f"SELECT {', '.join(columns)} FROM accum.{register}_{table}".encode()  # noqa: S608 - declared names
        ).fetchall()
    width = len(columns) - len(resources)
    return {row[:width]: row[width:] for row in rows if any(row[width:])}
