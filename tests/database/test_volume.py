"""What a question looks at when there are a million movements: rows are counted, time is not."""

import io
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import pytest

from tests.support.postgres import Database, Databases
from tests.support.registers import Shop, element

pytestmark = pytest.mark.slow

MOVEMENTS = 1_000_000
CELLS = 1000
RECORDERS = 50_000
FIRST_DAY = date(2023, 1, 1)
DAYS = 4 * 365
CELLS_OF_A_LOT = 10
CELL = {"warehouse": 3, "lot": "l7"}  # number 73
MOST_TOTALS = 62
"""Years, months of a year and days of a month, for a register that is twenty years old."""

# Index entries, and rows that were found without an index. Counters of the session's own transaction, exact at once.
READ = """
    SELECT coalesce(i.indrelid::regclass, c.oid::regclass)::text, sum(pg_stat_get_xact_tuples_returned(c.oid))::int
    FROM pg_class AS c
    LEFT JOIN pg_index AS i ON i.indexrelid = c.oid
    WHERE c.relnamespace = 'accum'::regnamespace AND c.relname LIKE 'stock\\_%'
    GROUP BY 1
"""


def lines() -> Iterator[str]:
    """Four years of documents, each of one day; a cell that moves every day, and others that do every few weeks."""
    choice = random.Random(1)
    for recorder in range(RECORDERS):
        day = recorder * DAYS // RECORDERS
        period = f"{FIRST_DAY + timedelta(days=day)} 12:00+00"
        for _ in range(MOVEMENTS // RECORDERS):
            cell = choice.choice([73, day % 20 * 50 + choice.randrange(50)])
            yield f"r{recorder}\t{period}\t{cell % 10}\tl{cell // 10}\t{choice.randint(-99, 99)}\n"


@dataclass(frozen=True, slots=True)
class Volume:
    """The register `stock`, full."""

    shop: Shop

    def read(self, statement: str, *parameters: object) -> dict[str, int]:
        """How many rows of which table a statement looked at."""
        with self.shop.connect(autocommit=False) as session:
            session.execute("SET max_parallel_workers_per_gather = 0")
            before: dict[str, int] = dict(session.execute(READ.encode()).fetchall())
            session.execute(statement.encode(), parameters).fetchall()
            after: dict[str, int] = dict(session.execute(READ.encode()).fetchall())
            session.rollback()
        return {table: count - before.get(table, 0) for table, count in after.items() if count > before.get(table, 0)}

    def size(self, table: str) -> int:
        return int(self.shop.ask(f"SELECT count(*) FROM {table}"))  # noqa: S608 - a table of ours


@pytest.fixture(scope="module")
def volume(databases: Databases, migrated_template: Database) -> Iterator[Volume]:
    """Loaded by one COPY, which the triggers fold, and analysed as autovacuum would."""
    database = databases.create(migrated_template)
    shop = Shop(database)
    shop.create("stock", time_zone="UTC")
    every_day = "ARRAY(SELECT %s::date + n FROM generate_series(0, %s - 1) AS n)"
    shop.rows(f"SELECT _ensure_partitions('stock', {every_day})", FIRST_DAY, DAYS)
    with shop.connect() as session, session.cursor() as cursor:
        columns = "recorder, period, warehouse, lot, quantity"
        with cursor.copy(f"COPY stock_movements ({columns}) FROM STDIN".encode()) as copy:
            text = io.StringIO("".join(lines()))
            while chunk := text.read(1 << 20):
                copy.write(chunk)
        cursor.execute("ANALYZE")
    yield Volume(shop)
    shop.clear()
    databases.drop(database)


def test_a_current_balance_reads_one_row(volume: Volume) -> None:
    """One entry of the balance's index, and the row that it points to."""
    assert volume.read('SELECT stock_balance(\'{"warehouse": 3, "lot": "l7"}\')') == {"stock_balance_cache": 1}
    assert volume.read('SELECT stock_balance(\'{"warehouse": 3, "lot": "none"}\')') == {}


@pytest.mark.parametrize("day", ["2026-12-30", "2026-07-14", "2026-01-01", "2025-12-31", "2023-01-31"])
def test_a_balance_of_the_past_reads_few_totals(volume: Volume, day: str) -> None:
    """Whole years, then months, then days of one cell; never the movements."""
    read = volume.read('SELECT stock_balance(\'{"warehouse": 3, "lot": "l7"}\', %s::date)', day)
    assert set(read) <= {"stock_totals_year", "stock_totals_month", "stock_totals_day"}
    assert 0 < sum(read.values()) <= MOST_TOTALS


def test_a_turnover_of_a_cell_reads_few_totals(volume: Volume) -> None:
    """From the middle of a month to the middle of another, years later: days and months at both ends."""
    statement = "SELECT stock_turnover('2023-01-10', '2026-12-20', '{\"warehouse\": 3, \"lot\": \"l7\"}')"
    read = volume.read(statement)
    assert set(read) == {"stock_totals_year", "stock_totals_month", "stock_totals_day"}
    assert sum(read.values()) <= 2 * MOST_TOTALS


def test_a_month_by_one_dimension_reads_the_months_totals(volume: Volume) -> None:
    """At most the table of months is read: a twentieth of the movements here, and ever less as there are more."""
    month = "SELECT stock_turnover('2026-03-01', '2026-03-31', {}, group_by => '[\"warehouse\"]')"
    read = volume.read(month.format("NULL"))
    assert set(read) == {"stock_totals_month"}
    assert CELLS <= read["stock_totals_month"] <= volume.size("stock_totals_month") <= MOVEMENTS // 20
    of_a_lot = volume.read(month.format('\'{"lot": "l7"}\''))
    assert set(of_a_lot) == {"stock_balance_cache", "stock_totals_month"}
    assert of_a_lot["stock_totals_month"] <= 2 * CELLS_OF_A_LOT


def test_a_balance_of_the_past_by_one_dimension_reads_the_totals_of_its_cells(volume: Volume) -> None:
    """The cells that match are found among the balances, and their days and months by key."""
    read = volume.read("SELECT stock_balance('{\"lot\": \"l7\"}', '2026-07-14')")
    assert set(read) == {"stock_balance_cache", "stock_totals_year", "stock_totals_month", "stock_totals_day"}
    assert read["stock_totals_day"] + read["stock_totals_month"] <= CELLS_OF_A_LOT * MOST_TOTALS
    assert read["stock_balance_cache"] <= 2 * (CELLS + CELLS_OF_A_LOT)
    assert read["stock_totals_year"] <= volume.size("stock_totals_year")


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT stock_balance()",
        "SELECT stock_balance('{\"warehouse\": 3}', '2026-07-14')",
        "SELECT stock_balance_by('[\"lot\"]', NULL, '2026-07-14')",
        "SELECT stock_turnover('2026-03-10', '2026-03-10')",
        "SELECT stock_turnover(NULL, '2026-03-10')",
        "SELECT stock_turnover('2026-03-10')",
        "SELECT * FROM stock_balance_at('2026-07-14')",
        "SELECT * FROM stock_turnover_between('2023-07-14', '2026-07-14') WHERE warehouse = 3",
        "SELECT * FROM stock_balances",
        "SELECT * FROM stock_turnovers_month WHERE period = '2026-03-01'",
        "SELECT * FROM register_list()",
        "SELECT register_info('stock')",
        "SELECT register_stats('stock')",
        "SELECT * FROM register_partitions('stock')",
    ],
)
def test_no_answer_is_counted_from_movements(volume: Volume, statement: str) -> None:
    """Whatever the shape of the range or the filter."""
    assert [table for table in volume.read(statement) if table.startswith("stock_movements")] == []


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT register_unpost('stock', 'r40000')",
        "SELECT count(*) FROM stock_movements('r40000')",
        "SELECT stock_turnover_between_instants('2026-07-14 10:00Z', '2026-07-14 18:00Z', '{\"lot\": \"l7\"}')",
    ],
)
def test_what_needs_movements_reads_only_those(volume: Volume, statement: str) -> None:
    """A recorder's, a page, or a part of a day: by an index, not by looking at them all."""
    read = volume.read(statement)
    assert sum(count for table, count in read.items() if table.startswith("stock_movements")) < MOVEMENTS // 500


@pytest.mark.parametrize("dimensions", ["NULL", '\'{"lot": "l7"}\''])
def test_a_page_reads_the_partition_that_it_is_in(volume: Volume, dimensions: str) -> None:
    """Not all that follow it: the first page of four years costs what the last one does."""
    page = "SELECT stock_movements(NULL, {}, NULL, {}, 20, {}, {})"
    for start in ("NULL, NULL", "'2026-07-14', 0", "'2026-07-31 12:00Z', 1e9::bigint"):
        period, after = start.split(", ")
        read = volume.read(page.format("NULL", dimensions, period, after))
        assert 20 <= sum(read.values()) <= MOVEMENTS // 20, start
    read = volume.read(page.format("'2026-07-31'", dimensions, "NULL", "NULL"))
    assert 20 <= sum(read.values()) <= MOVEMENTS // 20


def test_the_answers_are_right(volume: Volume) -> None:
    """Against sums of the movements themselves."""
    naive = "SELECT sum(quantity)::int FROM stock_movements WHERE period < %s AND warehouse = 3 AND lot = 'l7'"
    for day in ("2024-02-29", "2026-07-14"):
        following = str(date.fromisoformat(day) + timedelta(days=1))
        answer = volume.shop.ask("SELECT (stock_balance(%s, %s::date) -> 'quantity')::int", CELL, day)
        assert answer == volume.shop.ask(naive, following)
    by_warehouse = dict(volume.shop.rows("SELECT warehouse, sum(quantity)::int FROM stock_balances GROUP BY 1"))
    summed = dict(volume.shop.rows("SELECT warehouse, sum(quantity)::int FROM stock_movements GROUP BY 1"))
    assert by_warehouse == summed


def test_a_posting_touches_what_it_changes(volume: Volume) -> None:
    """One movement more reads a handful of rows, however many there are."""
    data = [element("new", "2026-07-14", 3, "l7", quantity=1)]
    read = volume.read("SELECT register_post('stock', %s::jsonb)", json.dumps(data))
    assert sum(read.values()) < 20
