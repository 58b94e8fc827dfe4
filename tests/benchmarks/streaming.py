"""From Kafka to committed: real workers, events that are in the topic already, first poll to last commit.

Workers join the group and are stopped (SIGSTOP) before anything is produced; the clock runs from the moment when they
may go on until the positions in PostgreSQL are behind the last event. Then the sums are compared.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from tests.benchmarks.figures import Figure, ratio, say
from tests.benchmarks.loads import NAME, Load, Shape, make_load
from tests.benchmarks.stage import PARTITIONS, Stage, sums_in
from tests.benchmarks.yardstick import copy_yardstick
from tests.support.postgres import Database
from tests.support.program import Program
from tests.support.waiting import wait_until

JOIN_TIMEOUT_S = 120
READ_TIMEOUT_S = 7200
FIRST_MONTH = "2026-03-01"
# Stopped workers send no heartbeats.
SESSION_TIMEOUT_MS = "1200000"
DERIVED = ("totals_day", "totals_month", "totals_year", "balance_cache")

OWNERS = "SELECT count(*) FROM accum._positions WHERE topic = %s GROUP BY owner"
READ = "SELECT coalesce(sum(next_offset), 0)::bigint FROM accum._positions WHERE topic = %s"


@dataclass(frozen=True, slots=True)
class Run:
    """What one stream took."""

    seconds: float
    movements: int
    phases: Mapping[str, float]
    peak_mb: float

    @property
    def rate(self) -> float:
        return self.movements / self.seconds


@dataclass(slots=True)
class Crew:
    """Workers of one group on one topic and database."""

    stage: Stage
    database: Database
    topic: str
    workers: list[Program] = field(default_factory=list)
    peak_kb: int = 0

    def start(self, count: int) -> None:
        """Starts so many workers and waits until each has its share of the partitions."""
        env = {
            "TALLYSTREAM_POSTGRES_DSN": self.database.dsn,
            "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": self.stage.broker.bootstrap_servers,
            "TALLYSTREAM_TOPICS": self.topic,
            "TALLYSTREAM_GROUP": f"group-{self.topic}",
            "TALLYSTREAM_SESSION_TIMEOUT_MS": SESSION_TIMEOUT_MS,
            "TALLYSTREAM_MAX_POLL_INTERVAL_MS": SESSION_TIMEOUT_MS,
            **{f"TALLYSTREAM_{name.upper()}": value for name, value in self.stage.settings.items()},
        }
        for _ in range(count):
            self.workers.append(Program("run", env=env, folder=self.stage.folder))
        with self.database.connect() as connection:

            def shared() -> bool:
                self.look_after()
                shares = [row[0] for row in connection.execute(OWNERS.encode(), [self.topic]).fetchall()]
                return len(shares) == count and sum(shares) == PARTITIONS and max(shares) - min(shares) <= 1

            wait_until(shared, JOIN_TIMEOUT_S, f"{count} workers share {PARTITIONS} partitions")

    def pause(self) -> None:
        """SIGSTOP to all."""
        for worker in self.workers:
            worker.pause()

    def resume(self) -> None:
        """SIGCONT to all."""
        for worker in self.workers:
            worker.resume()

    def wait_until_read(self, events: int) -> None:
        """Every event is behind the positions."""
        with self.database.connect() as connection:

            def read() -> bool:
                self.look_after()
                row = connection.execute(READ.encode(), [self.topic]).fetchone()
                return row is not None and row[0] >= events

            wait_until(read, READ_TIMEOUT_S, f"{events} events are read")

    def look_after(self) -> None:
        """Notes how much memory they use; fails when one has ended."""
        for worker in self.workers:
            assert worker.code is None, f"{worker!r} ended with {worker.code}:\n{worker.tail()}"
            self.peak_kb = max(self.peak_kb, peak_kb(worker.pid))

    def stop(self) -> dict[str, float]:
        """SIGTERM to all; returns what they spent on each phase, added up."""
        phases: dict[str, float] = {}
        while self.workers:
            worker = self.workers.pop()
            assert worker.terminate() == 0, worker.tail()
            for phase, seconds in worker.logged(event="stopped")[-1]["seconds"].items():
                phases[phase] = phases.get(phase, 0.0) + seconds
        return phases

    def close(self) -> None:
        """Ends whoever is left."""
        for worker in self.workers:
            worker.close()


def peak_kb(pid: int) -> int:
    """The most memory that the process has ever had in RAM."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0


@contextmanager
def crew(stage: Stage, database: Database, count: int) -> Iterator[Crew]:
    """Workers that wait for the first event; whatever happens, none is left."""
    with ExitStack() as stack:
        made = Crew(stage, database, stage.topic())
        stack.callback(made.close)
        made.start(count)
        yield made


def stream(
    stage: Stage,
    database: Database,
    events: Callable[[], Iterable[tuple[bytes, bytes]]],
    movements: int,
    workers: int = 1,
) -> Run:
    """Produces events and lets workers apply them."""
    with crew(stage, database, workers) as made:
        made.pause()
        count = stage.produce(made.topic, events())
        stage.settle()
        began = time.perf_counter()
        made.resume()
        made.wait_until_read(count)
        seconds = time.perf_counter() - began
        phases = made.stop()
    return Run(seconds, movements, phases, made.peak_kb / 1024)


def check(database: Database, load: Load, tables: Sequence[str] = DERIVED) -> None:
    """What the database holds is what was produced, in every table."""
    with database.connect() as connection:
        for table in ("movements", *tables):
            assert sums_in(connection, table) == tuple(load.sums), table
        row = connection.execute(f"SELECT count(*) FROM accum.{NAME}_movements".encode()).fetchone()  # noqa: S608
        assert row == (load.movements,)


def measure(
    stage: Stage, name: str, what: str, shape: Shape, movements: int, workers: int = 1, **limits: float | None
) -> list[Figure]:
    """The stream against the yardstick, in turns."""
    load = make_load(shape, movements)
    yardsticks, runs = [], []
    for _ in range(stage.rounds):
        with stage.database(shape.declaration()) as database:
            stage.settle()
            yardsticks.append(copy_yardstick(database, NAME, shape.columns, load.blocks, FIRST_MONTH))
        with stage.database(shape.declaration()) as database:
            runs.append(stream(stage, database, lambda: load.events, load.movements, workers))
            check(database, load)
    figure = ratio(name, what, [run.rate for run in runs], yardsticks, **limits)
    explain(figure, runs)
    return [figure]


def explain(figure: Figure, runs: Sequence[Run]) -> None:
    """Says at once what was measured, and where the time went."""
    say(f"{figure.line()}\n    {figure.explained()}")
    last = runs[-1]
    phases = ", ".join(f"{name} {1e6 * value / last.movements:.2f}" for name, value in last.phases.items())
    say(f"    us per movement: {1e6 / last.rate:.2f} in all; {phases}; peak {max(r.peak_mb for r in runs):.0f} MB")


def measure_totals(stage: Stage, name: str) -> list[Figure]:
    """What a register saves that keeps fewer totals, or pays that keeps more, in turns with an ordinary one."""
    load = make_load(GRID, stage.size(500_000, GRID.lines))
    variants = {
        "totals_period = day": (GRID.declaration(), DERIVED),
        "totals_period = month": (GRID.declaration("month"), DERIVED[1:]),
        "totals_period = year": (GRID.declaration("year"), DERIVED[2:]),
        "subtotals of 10 values": (GRID.declaration(subtotals=("warehouse",)), DERIVED),
        "subtotals of 10 and of 1,000 values": (GRID.declaration(subtotals=("warehouse", "product")), DERIVED),
    }
    runs: dict[str, list[Run]] = {variant: [] for variant in variants}
    for _ in range(stage.rounds):
        for variant, (declaration, tables) in variants.items():
            with stage.database(declaration) as database:
                runs[variant].append(stream(stage, database, lambda: load.events, load.movements))
                check(database, load, tables)
    all_grains = median(run.rate for run in runs["totals_period = day"])
    figures = [
        Figure(
            name,
            f"{variant}, one worker",
            median(run.rate for run in done) / all_grains,
            against="totals_period = day",
            details={"movements/s": median(run.rate for run in done)},
        )
        for variant, done in runs.items()
    ]
    for figure, done in zip(figures, runs.values(), strict=True):
        explain(figure, done)
    return figures


HOT = Shape(cells=100)
MEDIUM = Shape(cells=1000)
HIGH = Shape(cells=300_000)
GRID = Shape(cells=10_000, lines=10, days=30, days_of_most=0, resource="bigint", lot=False)
GRID_NUMERIC = Shape(cells=10_000, lines=10, days=30, days_of_most=0, lot=False)
GRID_SINGLE = Shape(cells=10_000, lines=1, days=30, days_of_most=0, resource="bigint", lot=False)

ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {
    "stream-hot": lambda stage, name: measure(
        stage, name, "Kafka to committed, 100 cells", HOT, stage.size(500_000, 5), floor=0.55, goal=0.7
    ),
    "stream-medium": lambda stage, name: measure(
        stage, name, "10 movements per cell and batch", MEDIUM, stage.size(500_000, 5), floor=0.40, goal=0.5
    ),
    "stream-high": lambda stage, name: measure(
        stage, name, "300,000 cells at random", HIGH, stage.size(500_000, 5), floor=0.20, goal=0.3
    ),
    "stream-grid": lambda stage, name: measure(
        stage,
        name,
        "10 x 1,000 cells, 30 days, 2 workers, bigint",
        GRID,
        stage.size(1_000_000, 10),
        2,
        floor=0.40,
        goal=0.5,
    ),
    "stream-numeric": lambda stage, name: measure(
        stage, name, "the same, numeric(18,2)", GRID_NUMERIC, stage.size(1_000_000, 10), 2, floor=0.30, goal=0.4
    ),
    "stream-single": lambda stage, name: measure(
        stage, name, "the same, bigint, one movement per event", GRID_SINGLE, stage.size(1_000_000), 2
    ),
    "stream-totals": measure_totals,
}
