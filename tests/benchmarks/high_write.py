"""What high-write mode is worth, and what it costs: row `high-write`. It prints figures and judges nothing.

Writers post batches that all meet in ten cells, into a standard register and into a high-write one with a compactor
beside it; then reads are timed with more and more deltas pending, and what is pending is drained.
"""

import threading
import time
from collections.abc import Callable, Mapping
from statistics import quantiles

import psycopg

from ingest.compactor import CompactorLimits
from ingest.domain.compacting import FIRST_KEY, Slice
from ingest.postgres.compacting import DeltaStore
from tests.benchmarks.figures import Figure, say
from tests.benchmarks.stage import Stage
from tests.support.pipeline import access_to
from tests.support.postgres import Database, Databases

WRITERS = (1, 4, 8)
SECONDS = 6.0
CELLS = 10
LINES = 100
MOVEMENTS = 300_000
PENDING = (0, 10_000, 1_000_000)
SLICE = CompactorLimits().slice_deltas

CREATE = (
    "SELECT register_create('hot', %s, '{\"quantity\": \"numeric(18,3)\"}', high_write => %s, partition_by => 'year')"
)
DIMENSIONS = '[{"name": "warehouse", "type": "int"}, {"name": "product", "type": "int"}]'
BATCH = """
    INSERT INTO hot_movements (recorder, period, warehouse, product, quantity)
    SELECT %(recorder)s, '2026-04-18'::timestamptz, n %% %(cells)s, 1, 1 FROM generate_series(1, %(lines)s) AS n
"""
SPREAD = """
    INSERT INTO hot_movements (recorder, period, warehouse, product, quantity)
    SELECT 'r' || n / 100, '2026-01-01'::timestamptz + n::bigint * 7919 %% 180 * interval '1 day', n %% 100, n %% 101, 1
    FROM generate_series(%s::int, %s::int) AS n
"""
READS = {
    "balance of one cell": 'SELECT hot_balance(\'{"warehouse": 17, "product": 4}\')',
    "the same on a day": "SELECT hot_balance('{\"warehouse\": 17, \"product\": 4}', '2026-05-17')",
    "balance of one warehouse": "SELECT hot_balance('{\"warehouse\": 17}')",
    "balance of everything": "SELECT hot_balance()",
    "turnover of April by warehouse": "SELECT hot_turnover('2026-04-01', '2026-04-30', NULL, '[\"warehouse\"]')",
}


def session(database: Database) -> psycopg.Connection:
    """As the owner, each statement a transaction."""
    return database.connect(options="-c search_path=accum")


def create(databases: Databases, template: Database, *, high_write: bool) -> Database:
    """A database with an empty register and its partitions."""
    database = databases.create(template)
    with session(database) as connection:
        connection.execute(CREATE.encode(), [DIMENSIONS, high_write])
        connection.execute("SELECT _ensure_partitions('hot', '{2026-01-01}')")
    return database


def writing(database: Database, number: int, until: float, took: list[float]) -> Callable[[], None]:
    """Posts batches, each a transaction of its own, and notes how long each took to be committed."""

    def work() -> None:
        with session(database) as connection:
            turn = 0
            while (began := time.perf_counter()) < until:
                turn += 1
                values = {"recorder": f"w{number}-{turn}", "cells": CELLS, "lines": LINES}
                connection.execute(BATCH, values)
                took.append(time.perf_counter() - began)

    return work


def folding(database: Database, stop: threading.Event) -> Callable[[], None]:
    """A compactor with its pauses."""

    def work() -> None:
        store = DeltaStore(access_to(database))
        key = FIRST_KEY
        while not stop.is_set():
            merged = store.merge(Slice("hot", SLICE, 1000, key))
            if merged.next_key is not None:
                key = merged.next_key
            else:
                key = FIRST_KEY
                store.vacuum("hot")
                stop.wait(1)
        store.close()

    return work


def contend(database: Database, writers: int, *, high_write: bool) -> tuple[float, float, float]:
    """Movements a second, and the median and the 99th percentile of a commit in milliseconds."""
    took: list[float] = []
    stop = threading.Event()
    compactor = threading.Thread(target=folding(database, stop))
    if high_write:
        compactor.start()
    until = time.perf_counter() + SECONDS
    threads = [threading.Thread(target=writing(database, number, until, took)) for number in range(writers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stop.set()
    if high_write:
        compactor.join()
    cuts = quantiles(took, n=100)
    return len(took) * LINES / SECONDS, cuts[49] * 1000, cuts[98] * 1000


def compare_writing(databases: Databases, template: Database) -> None:
    """More and more writers, in either mode."""
    say(f"writers, each posting batches of {LINES} movements of the same {CELLS} cells, for {SECONDS:.0f} s")
    say(f"{'':34}{'movements/s':>14}{'p50 ms':>10}{'p99 ms':>10}")
    for writers in WRITERS:
        for high_write in (False, True):
            database = create(databases, template, high_write=high_write)
            rate, median, last = contend(database, writers, high_write=high_write)
            name = f"{writers} writers, {'high-write' if high_write else 'standard'}"
            say(f"{name:34}{rate:14,.0f}{median:10.1f}{last:10.1f}")
    say()


def best_ms(connection: psycopg.Connection, statement: str) -> float:
    """The quickest of a few."""
    took = []
    for _ in range(4):
        began = time.perf_counter()
        connection.execute(statement.encode()).fetchall()
        took.append(time.perf_counter() - began)
    return min(took) * 1000


def compare_reading(databases: Databases, template: Database) -> None:
    """A standard register, then the same one in high-write mode with more and more pending."""
    database = create(databases, template, high_write=False)
    with session(database) as connection:
        connection.execute(SPREAD, [1, MOVEMENTS])
        connection.execute("VACUUM ANALYZE")
        columns = [{name: best_ms(connection, read) for name, read in READS.items()}]
        connection.execute("SELECT register_alter('hot', high_write => true)")
        for pending in PENDING:
            fill(connection, pending)
            columns.append({name: best_ms(connection, read) for name, read in READS.items()})
        headings = ["standard", *(f"{pending:,} pending" for pending in PENDING)]
        say(f"reads in ms, {MOVEMENTS:,} movements folded")
        say(f"{'':34}{''.join(f'{heading:>20}' for heading in headings)}")
        for name in READS:
            say(f"{name:34}{''.join(f'{column[name]:20.1f}' for column in columns)}")
    drain(database)


def fill(connection: psycopg.Connection, wanted: int) -> None:
    """Posts until so many deltas are pending: each of these batches is one delta for each of its cells and days."""
    step = min(100_000, max(wanted, 1))
    counted = "SELECT count(*) FROM hot_balance_cache_delta"
    while (row := connection.execute(counted).fetchone()) is not None and row[0] < wanted:
        connection.execute(SPREAD, [1, step])
    connection.execute("ANALYZE hot_balance_cache_delta")


def drain(database: Database) -> None:
    """Folds all that is pending."""
    store = DeltaStore(access_to(database))
    began, key, slices = time.perf_counter(), FIRST_KEY, []
    while True:
        started = time.perf_counter()
        merged = store.merge(Slice("hot", SLICE, 0, key))
        if merged.next_key is None:
            break
        key = merged.next_key
        slices.append(time.perf_counter() - started)
    store.close()
    whole, longest = time.perf_counter() - began, max(slices) * 1000
    say(f"drained in {whole:.1f} s: {len(slices)} transactions of at most {longest:.0f} ms")


def measure(stage: Stage, _name: str) -> list[Figure]:
    """Everything; prints tables of its own, for there is no yardstick."""
    compare_writing(stage.databases, stage.template)
    compare_reading(stage.databases, stage.template)
    return []


ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {"high-write": measure}
