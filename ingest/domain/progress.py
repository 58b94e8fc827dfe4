"""What a worker and a compactor have done since they started, and where they stand: for logs, metrics and the demo.

Each is written by its process's loop alone and read by other threads at any time: what they read is a number or a
frozen value that is replaced as a whole. Times are seconds of the loop's steady clock.
"""

import math
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from ingest.domain.applying import Applied, Claims
from ingest.domain.batches import Batch
from ingest.domain.messages import Reason
from ingest.domain.plans import Outcome
from ingest.domain.positions import TopicPartition
from ingest.errors import PositionError, TransientError

READING: Final = ("poll", "idle", "decode", "held_back")
"""Phases of the thread that reads; all others are of all lanes together."""
WAITING: Final = ("idle", "held_back")
"""Those of them in which it did nothing: there was nothing to read, or PostgreSQL was not through."""

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
EVENTS: Final = (1.0, 10.0, 100.0, 500.0, 1_000.0, 2_000.0, 5_000.0, 10_000.0, 20_000.0, 50_000.0, 100_000.0)


@dataclass(frozen=True, slots=True)
class LogEnd:
    """Where a partition's log ended when the broker last told, and how many records an open transaction holds back."""

    offset: int
    held_back: int = 0


@dataclass(frozen=True, slots=True)
class KafkaState:
    """What the consumer knows without asking: whether a broker answers, whether it is in the group, where logs end.

    `unclaimed` are partitions that the group gave and that are not read.
    """

    connected: bool
    joined: bool
    ends: Mapping[TopicPartition, LogEnd] = field(default_factory=dict)
    unclaimed: frozenset[TopicPartition] = frozenset()


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a claimed partition was applied, against its log; at `level_at` nothing waited, or it was claimed."""

    next_offset: int
    level_at: float
    last_event_ms: int | None = None
    end: LogEnd | None = None
    was_level: bool = False

    @property
    def lag_records(self) -> int | None:
        """Records of the log that are not applied; None while the log's end is unknown."""
        return None if self.end is None else max(0, self.end.offset - self.next_offset)

    def lag_s(self, now: float, wall_ms: float) -> float | None:
        """Age of the last applied event while others wait, at most the time since none did; 0 when none waits.

        Before anything was applied it is the time since the claim: how old what waits is, nobody has told yet.
        """
        lag = self.lag_records
        if not lag:
            return None if lag is None else 0.0
        behind_s = max(0.0, now - self.level_at)
        if self.last_event_ms is None:
            return behind_s
        age_s = max(0.0, (wall_ms - self.last_event_ms) / 1000)
        return min(behind_s, age_s) if self.was_level else age_s


class Histogram:
    """Counts of values by size, as Prometheus wants them: each bucket counts what is at most its bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = (*bounds, math.inf)
        self.counts = [0] * len(self.bounds)
        self.total = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Loop:
    """Whether a process's loop turns, and what it waits for."""

    turned_at: float | None = None
    stopping: bool = False
    failing: bool = False

    def turn(self, now: float) -> None:
        """Say that the loop came by."""
        self.turned_at = now


class Work(Protocol):
    """What a process keeps of its doings."""

    @property
    def loop(self) -> Loop:
        """Whether it goes on."""


@dataclass(slots=True)
class Progress:
    """What a worker has done since it started, and where it stands."""

    batches: int = 0
    movements: int = 0
    fenced: int = 0
    retries: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    registers: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=dict)
    """By phase; READING says which are of the thread that reads, the others are of all lanes together."""
    stopped: dict[TopicPartition, PositionError] = field(default_factory=dict)
    reaches: dict[TopicPartition, Reach] = field(default_factory=dict)
    kafka: KafkaState = field(default_factory=lambda: KafkaState(connected=False, joined=False))
    loop: Loop = field(default_factory=Loop)
    undecoded_at: float | None = None
    """When events could not be decoded because a schema registry did not answer; None once they were."""
    batch_events: Histogram = field(default_factory=lambda: Histogram(EVENTS))
    batch_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(SECONDS))

    def add(self, batch: Batch, applied: Applied) -> None:
        """Count a committed batch."""
        self.batches += 1
        self.movements += applied.movements
        self.outcomes.update(applied.outcomes)
        self.reasons.update(applied.reasons)
        self.registers.update(applied.registers)
        for phase, seconds in applied.seconds.items():
            self.spend(phase, seconds)
        self.batch_events.add(len(batch.items))
        if applied.seconds:
            self.batch_seconds.add(sum(applied.seconds.values()))
            self.commit_seconds.add(applied.seconds.get("commit", 0.0))
        for span in batch.spans:
            reach = self.reaches.get(span.claim.topic_partition)
            if reach is not None:
                event_ms = reach.last_event_ms if span.last_timestamp_ms is None else span.last_timestamp_ms
                reached = replace(reach, next_offset=span.next_offset, last_event_ms=event_ms)
                self.reaches[span.claim.topic_partition] = reached

    def spend(self, phase: str, seconds: float) -> None:
        """Count time that went into a phase."""
        self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds

    @contextmanager
    def decoding(self, now: Callable[[], float]) -> Iterator[None]:
        """Take note whether events are decoded within."""
        try:
            yield
        except TransientError:
            self.undecoded_at = now()
            raise
        self.undecoded_at = None

    def claim(self, claims: Claims, now: float) -> None:
        """Take note of partitions that are read from now on, and of those that must not be."""
        self.stopped.update(claims.stopped)
        for claim in claims.taken:
            self.stopped.pop(claim.topic_partition, None)
            self.reaches[claim.topic_partition] = Reach(claim.next_offset, now)

    def release(self, partitions: Iterable[TopicPartition]) -> None:
        """Take note of partitions that are read no more."""
        for topic_partition in partitions:
            self.reaches.pop(topic_partition, None)

    def see(self, kafka: KafkaState, now: float) -> None:
        """Take note of what the consumer knows, if it is news."""
        if kafka is self.kafka:
            return
        self.kafka = kafka
        for topic_partition in self.stopped.keys() - kafka.unclaimed:
            del self.stopped[topic_partition]
        for topic_partition, end in kafka.ends.items():
            reach = self.reaches.get(topic_partition)
            if reach is not None:
                seen = replace(reach, end=end)
                self.reaches[topic_partition] = (
                    seen if seen.lag_records else replace(seen, level_at=now, was_level=True)
                )

    def summary(self) -> dict[str, object]:
        """Return the counts as they are logged."""
        return {
            "batches": self.batches,
            "events": self.outcomes.total(),
            **{outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "movements": self.movements,
            "retries": self.retries,
            "fenced": self.fenced,
            "seconds": {phase: round(spent, 3) for phase, spent in self.seconds.items() if phase not in WAITING},
        }


@dataclass(slots=True)
class Tally:
    """What a compactor has done since it started."""

    slices: int = 0
    deltas: int = 0
    retries: int = 0
    problems: int = 0
    chores: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    loop: Loop = field(default_factory=Loop)

    def summary(self) -> dict[str, object]:
        """Return the counts as they are logged."""
        return {
            "slices": self.slices,
            "deltas": self.deltas,
            "retries": self.retries,
            "problems": self.problems,
            **self.chores,
        }
