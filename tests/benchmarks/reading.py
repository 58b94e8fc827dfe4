"""Reads, verification and rebuilding, with a million movements of 10,000 cells in a register.

A read is timed as a client sees it, the round trip included, in turns with a bare index lookup of one row.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import psycopg

from tests.benchmarks.figures import Figure, say
from tests.benchmarks.loads import NAME, SEED, Shape, make_load
from tests.benchmarks.stage import Stage, sums_in
from tests.support.postgres import Database

SHAPE = Shape(cells=10_000, lines=10, days=90, days_of_most=0, lot=False)
MOVEMENTS = 1_000_000
CALLS = 400
SCANS = 5

LOOKUP = f"SELECT quantity, amount FROM accum.{NAME}_balance_cache WHERE dim_hash = %s"  # noqa: S608
COLUMNS = ", ".join(SHAPE.columns)
COPY = f"COPY accum.{NAME}_movements (recorder, period, position_id, event_offset, batch_id, {COLUMNS}) FROM STDIN"
SCAN = f"SELECT count(*), sum(quantity), sum(amount) FROM accum.{NAME}_movements"  # noqa: S608
BALANCE = "SELECT bench_balance(%s)"
BALANCE_AT = "SELECT bench_balance(%s, %s)"
TURNOVER = "SELECT bench_turnover('2026-04-01', '2026-04-30', NULL, '[\"warehouse\"]')"


@dataclass(frozen=True, slots=True)
class Read:
    """A question, the dimensions that are given, and the milliseconds that are the goal."""

    what: str
    statement: str
    given: str
    goal: float


CELL, PRODUCT, WAREHOUSE = (
    '{{"warehouse": {warehouse}, "product": {product}}}',
    '{{"product": {product}}}',
    '{{"warehouse": {warehouse}}}',
)
READS = (
    Read("balance, all dimensions", BALANCE, CELL, 0.1),
    Read("balance at a date, all dimensions", BALANCE_AT, CELL, 0.3),
    Read("balance, one dimension (10 cells)", BALANCE, PRODUCT, 3.0),
    Read("balance, one dimension (1,000 cells)", BALANCE, WAREHOUSE, 3.0),
    Read("balance at a date, one dimension (10 cells)", BALANCE_AT, PRODUCT, 3.0),
    Read("balance at a date, one dimension (1,000 cells)", BALANCE_AT, WAREHOUSE, 3.0),
)


BY_DIMENSION = tuple(replace(read, what=f"{read.what}, subtotals") for read in READS if read.given != CELL)
KEEP_SUBTOTALS = "SELECT register_alter('bench', subtotals => '[\"warehouse\", \"product\"]')"


def fill(stage: Stage, database: Database) -> tuple[int, list[int]]:
    """Copies the movements by hand, as a loader would; returns how many, and the sums."""
    load = make_load(SHAPE, stage.size(MOVEMENTS, SHAPE.lines))
    with database.connect(options="-c timezone=UTC") as connection:
        connection.execute("SELECT accum._ensure_partitions('bench', '{2026-03-01,2026-04-01,2026-05-01}')")
        for _, block in load.blocks:
            with connection.cursor().copy(COPY.encode()) as copy:
                copy.write(block)
        connection.execute("VACUUM ANALYZE")
        assert sums_in(connection, "balance_cache") == tuple(load.sums)
    return load.movements, load.sums


def timed(connection: psycopg.Connection, statement: str, parameters: Sequence[object] = ()) -> float:
    """Milliseconds from the call to the last row; prepared, as an application's driver does it."""
    began = time.perf_counter()
    connection.execute(statement.encode(), parameters, prepare=True).fetchall()
    return (time.perf_counter() - began) * 1000


def measure_reads(stage: Stage, name: str) -> list[Figure]:
    """Balances now and at a date, of one cell and of one dimension, in turns with a lookup; then with subtotals."""
    rng, calls = random.Random(SEED), max(20, int(CALLS * min(1.0, stage.factor)))
    with stage.database(SHAPE.declaration()) as database:
        fill(stage, database)
        with database.connect(options="-c search_path=accum") as connection:
            keys = [row[0] for row in connection.execute("SELECT dim_hash FROM bench_balance_cache").fetchall()]
            took = [(read, _in_turns(connection, read, rng, keys, calls)) for read in READS]
            connection.execute(KEEP_SUBTOTALS)
            took += [(read, _in_turns(connection, read, rng, keys, calls)) for read in BY_DIMENSION]
    lookup = median([time for _, (lookups, _) in took for time in lookups])
    return [
        _said(Figure(name, "a bare index lookup of one row", lookup, "ms")),
        *(_said(_compared(name, read, lookups, times)) for read, (lookups, times) in took),
    ]


def _compared(name: str, read: Read, lookups: Sequence[float], times: Sequence[float]) -> Figure:
    details = {"lookups": median(times) / median(lookups), "p99 ms": sorted(times)[len(times) * 99 // 100]}
    return Figure(name, read.what, median(times), "ms", goal=read.goal, details=details)


def _in_turns(
    connection: psycopg.Connection, read: Read, rng: random.Random, keys: Sequence[int], calls: int
) -> tuple[list[float], list[float]]:
    """Milliseconds of lookups, and of the same number of reads."""
    lookups: list[float] = []
    times: list[float] = []
    for _ in range(calls):
        lookups.append(timed(connection, LOOKUP, [rng.choice(keys)]))
        given = read.given.format(warehouse=rng.randrange(10), product=rng.randrange(1000))
        day = [f"2026-04-{rng.randrange(1, 31):02}"] if read.statement is BALANCE_AT else []
        times.append(timed(connection, read.statement, [given, *day]))
    return lookups, times


def measure_care(stage: Stage, name: str) -> list[Figure]:
    """Month turnover, verification and rebuilding, in turns with a scan of the movements."""
    took: dict[str, list[float]] = {}
    with stage.database(SHAPE.declaration()) as database:
        movements, _ = fill(stage, database)
        with database.connect(options="-c search_path=accum") as connection:
            for _ in range(SCANS):
                for what, statement in (
                    ("sequential scan of the movements", SCAN),
                    ("month turnover by one dimension", TURNOVER),
                    ("verify", "SELECT * FROM register_verify('bench') WHERE status <> 'OK'"),
                    ("rebuild totals", "SELECT register_rebuild_totals('bench')"),
                ):
                    took.setdefault(what, []).append(timed(connection, statement) / 1000)
            rows = connection.execute("SELECT * FROM register_verify('bench') WHERE status <> 'OK'").fetchall()
            assert not rows, rows[:3]
    scan = median(took["sequential scan of the movements"])
    return [
        _said(
            Figure(
                name, what, median(times), "s",
                goal=2.0 * movements / 1_000_000 if what == "verify" else None,
                details={"scans": median(times) / scan, "movements": movements},
            )
        )
        for what, times in took.items()
    ]  # fmt: skip


def _said(figure: Figure) -> Figure:
    say(f"{figure.line()}\n    {figure.explained()}")
    return figure


ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {"reads": measure_reads, "care": measure_care}
