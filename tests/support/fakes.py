"""What the worker's loop is tested with: a source, a store and a clock in memory, each as honest as the real one.

The source reads a log from the claims it was given and reads it again after a new claim; the store compares and sets
positions under epochs. So a test says what goes wrong, and looks at what was applied: each record once, in order.
"""

import copy
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ingest.domain.applying import Applied, Claims, Registry, Standing, Stop
from ingest.domain.batches import Batch, Decoded, Span
from ingest.domain.messages import Event, EventType, Message, Movements, Reason, Refusal
from ingest.domain.plans import Outcome
from ingest.domain.positions import Claim, LogBounds, TopicPartition
from ingest.domain.progress import KafkaState, LogEnd
from ingest.domain.streaks import cut_batch
from ingest.errors import FencedError, PositionError, RegistryChangedError, TransientError
from tests.support.events import INVENTORY

OnAssigned = Callable[[Sequence[LogBounds]], Sequence[Claim]]
OnRevoked = Callable[[Sequence[TopicPartition], bool], None]

# Polls are a millisecond apart, so this is some seconds of a test that does not end by itself.
MOST_POLLS = 20_000


def partition(number: int = 0) -> TopicPartition:
    return TopicPartition("t", number)


def decode(registry: Registry, message: Message) -> Decoded:
    """An event of the register that the record's value names, or a refusal."""
    register = (message.value or b"").decode()
    if register not in registry.registers:
        return Refusal(message, Reason.UNKNOWN_REGISTER, "register", f"version {registry.version}")
    return Event(message, EventType.MOVEMENT, register, "r", f"{message.offset}", None, Movements(), 0, 0)


class FakeClock:
    """Time that only passes when somebody sleeps, or when a test says so: then a tick with every look at the clock."""

    def __init__(self, tick_s: float = 0.0) -> None:
        self.time = 1000.0
        self.tick_s = tick_s
        self.slept: list[float] = []
        self.alarms: list[Callable[[], None]] = []

    def now(self) -> float:
        self.time += self.tick_s
        return self.time

    def sleep(self, seconds: float, until: threading.Event) -> None:
        if self.alarms:
            self.alarms.pop(0)()
        if not until.is_set():
            self.slept.append(seconds)
            self.time += seconds
            time.sleep(0.0005)  # so that other threads have their turn


class FakeStore:
    """Positions, epochs, declarations and what was applied; `trouble` is what happens to the next calls of `apply`."""

    def __init__(self, registers: Sequence[str] = ("sales",)) -> None:
        self.version = 1
        self.registers = list(registers)
        self.positions: dict[TopicPartition, tuple[int, int]] = {}
        self.tried: Counter[TopicPartition] = Counter()
        self.applied: list[tuple[int, int]] = []
        self.refused: list[tuple[int, int]] = []
        self.batches: list[Batch] = []
        self.attempts = 0
        self.trouble: deque[Callable[[Batch], None]] = deque()
        self.registry_trouble: deque[Exception] = deque()
        self.claim_trouble: deque[Exception] = deque()
        self.standing_trouble: deque[Exception] = deque()
        self.stopped: dict[TopicPartition, PositionError] = {}
        self.check_trouble: deque[Exception] = deque()
        self.checked: list[list[Claim]] = []
        self.breaks: dict[TopicPartition, int] = {}
        self.asked_for_standing = 0
        self.closed = False
        self._lock = threading.Lock()
        self._busy = threading.Lock()

    def session(self) -> "FakeStore":
        """Another session of the same server, with troubles of its own."""
        other = copy.copy(self)
        other.trouble = deque()
        other.attempts = 0
        other._busy = threading.Lock()
        return other

    def registry(self) -> Registry:
        if self.registry_trouble:
            raise self.registry_trouble.popleft()
        return Registry(self.version, dict.fromkeys(self.registers, INVENTORY))

    def declare(self, register: str) -> None:
        """Somebody changes the declarations."""
        self.registers.append(register)
        self.version += 1

    def claim(self, bounds: Sequence[LogBounds]) -> Claims:
        if self.claim_trouble:
            raise self.claim_trouble.popleft()
        with self._lock:
            taken = []
            for bound in bounds:
                if bound.topic_partition in self.stopped:
                    continue
                offset, epoch = self.positions.get(bound.topic_partition, (bound.low, 0))
                self.positions[bound.topic_partition] = offset, epoch + 1
                position_id = bound.topic_partition.partition
                self.tried[bound.topic_partition] += bound.high > offset
                taken.append(
                    Claim(bound.topic_partition, position_id, offset, epoch + 1, self.tried[bound.topic_partition])
                )
        asked = {bound.topic_partition for bound in bounds}
        return Claims(tuple(taken), tuple((tp, e) for tp, e in self.stopped.items() if tp in asked))

    def steal(self, number: int = 0) -> None:
        """Another worker claims the partition."""
        with self._lock:
            offset, epoch = self.positions[partition(number)]
            self.positions[partition(number)] = offset, epoch + 1

    def apply(self, batch: Batch, registry: Registry) -> Applied:
        assert self._busy.acquire(blocking=False), "two batches at once over one connection"
        try:
            self.attempts += 1
            if self.trouble:
                self.trouble.popleft()(batch)
            if not self.version == registry.version == batch.registry_version:
                raise RegistryChangedError("changed")
            batch.confirm()
            return self.commit(batch)
        finally:
            self._busy.release()

    def commit(self, batch: Batch) -> Applied:
        """What a transaction does, honestly; a partition in `breaks` is stopped before that offset."""
        with self._lock:
            cuts = {s.claim.topic_partition: at for s in batch.spans for at in self._cut(s)}
            batch = cut_batch(batch, cuts)
            self.stopped |= {where: PositionError("too many dead letters") for where in cuts}
            before = {span.claim.topic_partition: (span.claim.next_offset, span.claim.epoch) for span in batch.spans}
            if any(self.positions[tp] != expected for tp, expected in before.items()):
                raise FencedError("others own it")
            for span in batch.spans:
                self.positions[span.claim.topic_partition] = span.next_offset, span.claim.epoch
                self.tried[span.claim.topic_partition] = span.claim.attempts
            self.batches.append(batch)
            for item in batch.items:
                kept = self.applied if isinstance(item, Event) else self.refused
                kept.append((item.message.partition, item.message.offset))
        events = sum(isinstance(item, Event) for item in batch.items)
        outcomes = Counter({Outcome.APPLIED: events, Outcome.DEAD_LETTER: len(batch.items) - events})
        stops = tuple(Stop(where, at, self.stopped[where]) for where, at in cuts.items())
        return Applied(len(self.batches), outcomes, {}, events, stopped=stops)

    def _cut(self, span: Span) -> Iterable[int]:
        at = self.breaks.get(span.claim.topic_partition)
        return () if at is None or at > span.next_offset else (at,)

    def standing(self, batch: Batch) -> Standing:
        self.asked_for_standing += 1
        if self.standing_trouble:
            raise self.standing_trouble.popleft()
        with self._lock:
            found = [self.positions[span.claim.topic_partition] for span in batch.spans]
        if found == [(span.next_offset, span.claim.epoch) for span in batch.spans]:
            return Standing.COMMITTED
        before = [(span.claim.next_offset, span.claim.epoch) for span in batch.spans]
        return Standing.NOT_COMMITTED if found == before else Standing.FENCED

    def holds(self, claims: Sequence[Claim]) -> bool:
        self.checked.append(list(claims))
        if self.check_trouble:
            raise self.check_trouble.popleft()
        with self._lock:
            return all(self.positions[c.topic_partition] == (c.next_offset, c.epoch) for c in claims)

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeSource:
    """A group with one member that reads `log`; `events` happen, in this order, one at the beginning of each poll.

    `unconfirmed` is what comes of the next questions whether a batch is of the topics that were claimed.
    """

    log: dict[TopicPartition, list[Message]]
    events: deque[Callable[[], None]] = field(default_factory=deque)
    until: Callable[[], object] = lambda: True
    stop: Callable[[], None] = lambda: None
    partitions: int = 0
    mirrored: list[dict[TopicPartition, int]] = field(default_factory=list)
    revoked: set[TopicPartition] = field(default_factory=set)
    rejoined: int = 0
    pauses: int = 0
    polls: int = 0
    polls_while_paused: int = 0
    unconfirmed: deque[Exception] = field(default_factory=deque)
    paused: bool = False
    closed: bool = False
    started: bool = False

    def start(self, on_assigned: OnAssigned, on_revoked: OnRevoked) -> None:
        self.started = True
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self._next: dict[TopicPartition, int] = {}
        self._waiting = True

    def poll(self, max_messages: int, timeout_s: float) -> Sequence[Message]:
        assert timeout_s >= 0
        self.polls += 1
        assert self.polls < MOST_POLLS, "the test does not end"
        time.sleep(0.001)
        if self.events:
            self.events.popleft()()
        elif self.until():
            self.stop()
        if self._waiting:
            self._waiting = False
            self.assign(tp for tp in self.log if tp not in self.revoked)
        if self.paused:
            self.polls_while_paused += 1
            return []
        found: list[Message] = []
        for topic_partition in sorted(self._next):
            waiting = [m for m in self.log[topic_partition] if m.offset >= self._next[topic_partition]]
            for message in waiting[: max_messages - len(found)]:
                found.append(message)
                self._next[topic_partition] = message.offset + 1
        return found

    def assign(self, partitions: Iterable[TopicPartition]) -> None:
        """The group gives partitions; what the worker claims is read from the claim on."""
        given = [LogBounds(tp, None, 0, len(self.log[tp]), self.partitions) for tp in partitions]
        self._next |= {claim.topic_partition: claim.next_offset for claim in self._on_assigned(given)}

    def revoke(self, *numbers: int, lost: bool = False) -> None:
        """The group takes partitions away."""
        gone = [partition(number) for number in numbers]
        self._on_revoked(gone, lost)
        self.revoked.update(gone)
        for topic_partition in gone:
            self._next.pop(topic_partition, None)

    def give_back(self, *numbers: int) -> None:
        gone = [partition(number) for number in numbers]
        self.revoked.difference_update(gone)
        self.assign(gone)

    def confirm(self, partitions: Collection[TopicPartition]) -> Callable[[], None]:
        def confirmed() -> None:
            assert partitions, "a batch without partitions"
            if self.unconfirmed:
                raise self.unconfirmed.popleft()

        return confirmed

    def pause(self) -> None:
        self.paused = True
        self.pauses += 1

    def resume(self) -> None:
        self.paused = False

    def mirror(self, offsets: Mapping[TopicPartition, int]) -> None:
        self.mirrored.append(dict(offsets))

    def rejoin(self) -> None:
        self.rejoined += 1
        self._next.clear()
        self._waiting = True

    def state(self) -> KafkaState:
        held = {tp: LogEnd(len(self.log[tp])) for tp in self._next}
        return KafkaState(connected=True, joined=True, ends=held, unclaimed=frozenset(self.log.keys() - held.keys()))

    def close(self) -> None:
        self.closed = True


def fails(error: Exception) -> Callable[[Batch], None]:
    """Trouble: the transaction fails, and nothing was committed."""

    def trouble(_batch: Batch) -> None:
        raise error

    return trouble


def loses_reply(store: FakeStore) -> Callable[[Batch], None]:
    """Trouble: the transaction is committed, but the connection is gone before the reply."""

    def trouble(batch: Batch) -> None:
        store.commit(batch)
        raise TransientError("the connection was lost")

    return trouble


def waits_for(gate: threading.Event) -> Callable[[Batch], None]:
    """Trouble: PostgreSQL takes until the gate is opened."""

    def trouble(_batch: Batch) -> None:
        assert gate.wait(30)

    return trouble
