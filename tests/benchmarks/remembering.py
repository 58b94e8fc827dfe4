"""What memory a worker needs while a backlog waits that is far larger than all its limits together.

Documents are made once and sent again and again under new names. The worker's memory in RAM is sampled meanwhile; the
backlog need not be read to its end: what matters is that memory does not depend on how much waits.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from statistics import median

import psutil

from tests.benchmarks.figures import Figure, say
from tests.benchmarks.loads import NAME, Shape, documents, event_of
from tests.benchmarks.stage import Stage
from tests.benchmarks.streaming import crew

SHAPE = Shape(cells=10_000, lines=10)
BACKLOG_BYTES = 10 * 2**30
DOCUMENTS = 20_000
SECONDS = 60.0
SAMPLE_S = 0.1
READ = "SELECT coalesce(sum(next_offset), 0)::bigint FROM accum._positions"
RECORDERS = f"SELECT count(*) FROM accum.{NAME}_recorders"  # noqa: S608
DIFFERENCES = f"SELECT * FROM accum.register_verify('{NAME}') WHERE status <> 'OK'"  # noqa: S608


def backlog(size: int) -> Iterator[tuple[bytes, bytes]]:
    """Documents of so many bytes altogether, each with a recorder of its own."""
    made = [(d.recorder.encode(), event_of(SHAPE, d)) for d in documents(SHAPE, DOCUMENTS * SHAPE.lines, prefix="@")]
    written = 0
    for turn in count():
        name = b"r%d-" % turn
        for key, value in made:
            if written >= size:
                return
            written += len(value)
            yield key.replace(b"@", name), value.replace(b"@", name)


def measure(stage: Stage, name: str) -> list[Figure]:
    """Samples at full speed."""
    size = stage.size(BACKLOG_BYTES)
    with stage.database(SHAPE.declaration()) as database, crew(stage, database, 1) as made:
        made.pause()
        events = stage.produce(made.topic, backlog(size))
        made.resume()
        samples = _sample(made.workers[0].pid, max(1.0, SECONDS * min(1.0, stage.factor)))
        made.look_after()
        made.stop()
        with database.connect() as connection:
            read = connection.execute(READ.encode()).fetchone()
            assert read == connection.execute(RECORDERS.encode()).fetchone()
            assert not connection.execute(DIFFERENCES.encode()).fetchall()
    assert read is not None
    third = len(samples) // 3
    details = {
        "backlog MB": size / 2**20,
        "events": events,
        "read": read[0],
        "first third MB": median(samples[:third]),
        "last third MB": median(samples[-third:]),
    }
    peak = made.peak_kb / 1024
    figure = Figure(name, "memory of a worker with a backlog, at most", peak, "MB", goal=300.0, details=details)
    growth = details["last third MB"] / details["first third MB"]
    flat = Figure(name, "memory in the last third of the time", growth, against="the first third", details=details)
    for each in (figure, flat):
        say(f"{each.line()}\n    {each.explained()}")
    return [figure, flat]


def _sample(pid: int, seconds: float) -> list[float]:
    process, samples = psutil.Process(pid), []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        samples.append(process.memory_info().rss / 2**20)
        time.sleep(SAMPLE_S)
    return samples


ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {"memory": measure}
