"""A worker between fakes of its source, its store and its clock, for the tests of its loop."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from ingest.domain.batches import BatchLimits
from ingest.domain.messages import Message
from ingest.domain.plans import Outcome
from ingest.errors import TransientError
from ingest.wiring.parts import Threads
from ingest.worker import Worker, WorkerLimits
from tests.support.fakes import FakeClock, FakeSource, FakeStore, decode, partition, waits_for
from tests.support.waiting import wait_until

DOWN = TransientError("PostgreSQL is down")
# Every batch is due at once, nothing waits for real time, and a stalled commit is noticed at once.
QUICK = WorkerLimits(
    batch=BatchLimits(max_events=3, max_age_ms=0, growth=1),
    poll_max_messages=2,
    poll_timeout_ms=1,
    stall_after_ms=1,
    revoke_budget_ms=5_000,
    stop_budget_ms=5_000,
)


@dataclass
class Bench:
    """A worker between its fakes."""

    partitions: int = 1
    records: int = 10
    value: bytes = b"sales"
    limits: WorkerLimits = QUICK
    store: FakeStore = field(default_factory=FakeStore)
    clock: FakeClock = field(default_factory=FakeClock)
    ends: list[threading.Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.log = {
            partition(n): [Message("t", n, offset, 1, None, self.value) for offset in range(self.records)]
            for n in range(self.partitions)
        }
        self.source = FakeSource(self.log, until=self.everything_is_applied)
        self.worker = Worker(self.source, [self.store], decode, self.clock, self.limits, Threads())
        self.source.stop = self.worker.stop

    def everything_is_applied(self) -> bool:
        return len(self.store.applied) + len(self.store.refused) >= self.partitions * self.records

    def run(self, *events: Callable[[], None]) -> None:
        """Runs the worker until everything is applied; the events happen, one at the beginning of each poll."""
        self.source.events.extend(events)
        self.worker.run()
        assert self.source.closed
        assert self.store.closed

    def gate(self) -> threading.Event:
        """A closed gate for the next batch; opened at the end of the test at the latest."""
        self.ends.append(threading.Event())
        self.store.trouble.append(waits_for(self.ends[-1]))
        return self.ends[-1]

    def wait_for_attempt(self, count: int = 1) -> None:
        """Returns when the store is applying the count-th batch."""
        wait_until(lambda: self.store.attempts >= count, 30, "the store is applying a batch")

    def check(self) -> None:
        """Each record was applied once, and those of a partition in their order."""
        for number in range(self.partitions):
            offsets = [offset for where, offset in self.store.applied if where == number]
            assert offsets == list(range(self.records))
        assert self.worker.progress.outcomes[Outcome.DEAD_LETTER] == 0


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    """Makes benches, and lets their threads end."""
    made: list[Bench] = []

    def make(**changes: object) -> Bench:
        made.append(Bench(**changes))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        for end in one.ends:
            end.set()


def nothing() -> None:
    """A poll at whose beginning nothing happens."""
