"""Whether speed lasts: the same stream into a register with 1 million movements, and into the same one with 50 million.

Movements are spread over a year; the stream is about the last two days, with one document in ten from anywhere. What
is there already is inserted by SQL, through the same triggers.
"""

from collections.abc import Callable, Mapping
from functools import partial

from tests.benchmarks.figures import Figure
from tests.benchmarks.loads import NAME, Shape, documents, event_of
from tests.benchmarks.stage import Stage
from tests.benchmarks.streaming import Run, explain, stream
from tests.support.postgres import Database

SHAPE = Shape(cells=10_000, lines=10, days=360, lot=False)
SMALL, LARGE = 1_000_000, 50_000_000
STREAMED = 500_000
STEP = 250_000

INSERT = f"""
    INSERT INTO accum.{NAME}_movements (recorder, period, warehouse, product, quantity, amount)
    SELECT
        'old' || n / 10, timestamptz '2026-03-01 08:00+00' + (n / 10)::bigint * 7919 %% 360 * interval '1 day',
        n::bigint * 7907 %% 10, n::bigint * 7901 / 10 %% 1000, n %% 100 + 1, n %% 10000
    FROM generate_series(%s::int, %s::int) AS n
"""  # noqa: S608
COUNT = f"SELECT count(*) FROM accum.{NAME}_movements"  # noqa: S608


def measure(stage: Stage, name: str) -> list[Figure]:
    """Two databases, filled before anything is timed; then the same stream into one and the other, so many times."""
    sizes = stage.size(SMALL, STEP), stage.size(LARGE, STEP)
    with stage.database(SHAPE.declaration()) as small, stage.database(SHAPE.declaration()) as large:
        runs: list[tuple[Database, int, list[Run]]] = [(small, sizes[0], []), (large, sizes[1], [])]
        for database, size, _ in runs:
            fill(database, size)
        for number in range(stage.rounds):
            for database, _, done in runs:
                stage.settle()
                done.append(_stream(stage, database, f"s{number}-"))
        for database, size, done in runs:
            with database.connect() as connection:
                found = connection.execute(COUNT.encode()).fetchone()
                assert found == (size + sum(run.movements for run in done),)
    figure = _compare(name, *sizes, *(done for _, _, done in runs))
    explain(figure, runs[-1][2])
    return [figure]


def fill(database: Database, size: int) -> None:
    """Inserts so many movements, and lets PostgreSQL take care of its tables as it would have meanwhile."""
    with database.connect() as connection:
        for start in range(0, size, STEP):
            connection.execute(INSERT.encode(), [start, min(start + STEP, size) - 1])
        connection.execute("VACUUM ANALYZE")


def _stream(stage: Stage, database: Database, prefix: str) -> Run:
    movements = stage.size(STREAMED, SHAPE.lines)
    made = [(d.recorder.encode(), event_of(SHAPE, d)) for d in documents(SHAPE, movements, prefix=prefix)]
    return stream(stage, database, partial(list, made), movements)


def _compare(name: str, small: int, large: int, before: list[Run], after: list[Run]) -> Figure:
    first, last = (sorted(run.rate for run in runs)[len(runs) // 2] for runs in (before, after))
    what = f"throughput at {large:,} movements"
    details = {"movements/s then": last, f"movements/s at {small:,}": first}
    limit = 0.85 if large >= LARGE else None
    return Figure(name, what, last / first, against=f"at {small:,}", floor=limit, goal=limit, details=details)


ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {"growth": measure}
