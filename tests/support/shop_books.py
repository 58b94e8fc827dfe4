"""The demo's shop against its books: every cell and day of its registers, and what was written down by other means."""

from datetime import date
from decimal import Decimal

from ingest.demo.books import Books
from ingest.demo.shop import COLUMNS, INVENTORY, SALES
from tests.support.stream import Stream


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
