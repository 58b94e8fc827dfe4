"""What must not grow with time: the memory of the processes, the lag, and the room that an event takes.

Looked at while the torture goes on, and told as slopes without the first third of the run, in which caches fill.
"""

import contextlib
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression
from typing import Final

import confluent_kafka as ck
import psutil
import psycopg

from tests.torture.crew import Crew
from tests.torture.stage import Stage

LOOKS: Final = 200
HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Look:
    """At one moment."""

    at_s: float
    largest_mb: float
    lag: int
    database_mb: float
    read: int


class Slopes(threading.Thread):
    """Looks now and then until it is told to stop; servers that are away are not looked at."""

    def __init__(self, stage: Stage, crew: Crew, seconds: float) -> None:
        super().__init__(name="slopes", daemon=True)
        self.looks: list[Look] = []
        self._stage = stage
        self._crew = crew
        self._every_s = max(1.0, seconds / LOOKS)
        self._stopping = threading.Event()
        self._began = time.monotonic()

    def run(self) -> None:
        """Look, and look again."""
        while not self._stopping.wait(self._every_s):
            with contextlib.suppress(psycopg.Error, ck.KafkaException, TimeoutError):
                self.looks.append(self._look())

    def stop(self) -> None:
        """Finish the look under way."""
        self._stopping.set()
        self.join()

    def _look(self) -> Look:
        positions, ends = self._stage.positions(), self._stage.end()
        with self._stage.connect() as connection:
            row = connection.execute("SELECT pg_database_size(current_database())").fetchone()
        return Look(
            time.monotonic() - self._began,
            max((_memory_mb(member.program.pid) for member in list(self._crew.workers)), default=0.0),
            sum(ends.values()) - sum(positions.values()),
            row[0] / 1e6 if row else 0.0,
            sum(positions.values()),
        )


def told(looks: Sequence[Look]) -> str:
    """The slopes of all but the first third, in one line."""
    late = looks[len(looks) // 3 :]
    if len({look.read for look in late}) < 3:
        return "slopes: too few looks at too little for any"
    hours = [look.at_s / HOUR_S for look in late]
    memory, lag = (
        linear_regression(hours, values).slope for values in ([x.largest_mb for x in late], [x.lag for x in late])
    )
    room = linear_regression([look.read for look in late], [look.database_mb * 1e6 for look in late]).slope
    most_mb, most_lag = max(look.largest_mb for look in looks), max(look.lag for look in looks)
    return (
        f"slopes over {len(late)} looks: largest worker {memory:+.1f} MB/h (at most {most_mb:.0f} MB),"
        f" lag {lag:+.0f} records/h (at most {most_lag}), database {room:+.0f} bytes per event"
    )


def _memory_mb(pid: int) -> float:
    try:
        return float(psutil.Process(pid).memory_info().rss) / 1e6
    except psutil.Error:
        return 0.0
