"""Lanes: each commits one batch at a time over a session of its own, so that while one waits the next is at work.

A partition is in one lane for as long as it is ours, so its events are applied in order. To PostgreSQL lanes are what
several workers are: whatever keeps those from one another's way holds for them. So workers share them: of a topic's
partitions half, and half of the lanes commit at a time.

Batches side by side are for a worker that is behind. Small ones would wait for each other's rows and hit the same ones
twice, so all lanes together make one of them, and the next one waits for it: docs/performance.md has what that brings.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Final, Protocol

from ingest.domain.applying import Applied, Store
from ingest.domain.batches import Batch, BatchBuilder, BatchLimits, Decoded, together
from ingest.domain.positions import Claim, TopicPartition

# How long a small batch waits for another lane's at most: that one may fail again and again, or wait for a lock.
PATIENCE_S: Final = 1.0


class Background(Protocol):
    """Where batches are committed while the next ones are read."""

    def start(self, work: Callable[[], None]) -> None:
        """Begin the work, and return."""

    def wait(self, results: Sequence[Future[Applied]], timeout_s: float) -> bool:
        """Return when one of the results is there, or the time is over; says which."""


@dataclass(slots=True, eq=False)
class InFlight:
    """A batch, the session over which it is committed, and what becomes of it."""

    store: Store
    batch: Batch
    result: Future[Applied] = field(default_factory=Future)
    failing: bool = False


@dataclass(slots=True, eq=False)
class Lane:
    """A session, the events that wait for it, and the batch in which its last ones are: its own or another lane's."""

    store: Store
    builder: BatchBuilder
    in_flight: InFlight | None = None


class Lanes:
    """All lanes of a worker."""

    def __init__(self, stores: Sequence[Store], limits: BatchLimits) -> None:
        self._lanes = [Lane(store, BatchBuilder(limits)) for store in stores]
        self._partitions_of: dict[str, int] = {}

    @property
    def claims(self) -> Mapping[TopicPartition, Claim]:
        """The claimed partitions, each with the offset up to which batches were taken."""
        return {where: claim for lane in self._lanes for where, claim in lane.builder.claims.items()}

    @property
    def moving(self) -> frozenset[TopicPartition]:
        """Partitions of which a batch is being committed."""
        return frozenset(where for one in self.in_flight for where in one.batch.next_offsets)

    @property
    def in_flight(self) -> list[InFlight]:
        """The batches that are being committed."""
        return list(dict.fromkeys(lane.in_flight for lane in self._lanes if lane.in_flight is not None))

    @property
    def is_blocked(self) -> bool:
        """Whether nothing more should be read before a commit is through."""
        return any(lane.builder.is_full() and (lane.in_flight or not self._room) for lane in self._lanes)

    @property
    def waits_for_commit(self) -> bool:
        """Whether events wait that cannot be committed before a commit is through."""
        return bool(self._busy) and any(len(lane.builder) for lane in self._lanes)

    @property
    def is_failing(self) -> bool:
        """Whether a batch fails and is tried again."""
        return any(one.failing for one in self.in_flight)

    def claim(self, claims: Iterable[Claim], partitions_of: Mapping[str, int]) -> None:
        """Begin to accept events of these partitions, each in the lane that has the fewest.

        Topics come with the number of their partitions, 0 where it is unknown.
        """
        taken = sorted(claims, key=lambda claim: claim.topic_partition)
        where = [claim.topic_partition for claim in taken]
        self.release(where)
        self._partitions_of |= partitions_of
        free_first = sorted(self._lanes, key=lambda lane: (not lane.builder.claims, lane.in_flight is not None))
        ours = free_first[: self._share({*self.claims, *where})]
        for claim in taken:
            lane = min(ours, key=lambda lane: (len(lane.builder.claims), lane.in_flight is not None))
            lane.builder.claim([claim])

    def gather(self, now: float) -> None:
        """Use no more lanes than are this worker's share: fewer, larger batches. A batch in flight has them stay."""
        share = self._share(self.claims)
        if self.in_flight:
            return
        for lane in self._lanes[share:]:
            claims, items, version = lane.builder.give_up()
            if claims:
                fewest = min(self._lanes[:share], key=lambda lane: len(lane.builder.claims)).builder
                fewest.claim(claims)
                fewest.add(items, version, now)

    def _share(self, claimed: Iterable[TopicPartition]) -> int:
        """How many lanes are this worker's, by its share of the partitions: one at least."""
        partitions = list(claimed)
        there = sum(self._partitions_of.get(topic, 0) for topic in {where.topic for where in partitions})
        most = len(self._lanes)
        return min(most, max(1, most * len(partitions) // there)) if there else most

    @property
    def _room(self) -> int:
        """How many more batches may be committed now."""
        return max(0, self._share(self.claims) - len(self._busy))

    @property
    def _busy(self) -> list[Lane]:
        # What is left of an earlier claim is in nobody's way.
        return [lane for lane in self._lanes if lane.in_flight is not None and lane.builder.claims]

    def most_messages(self, limit: int) -> int:
        """How many messages to read at a time: no more than fit into the smallest of the lanes' batches.

        One where none waits: a source that has one keeps it until it has as many as it was asked for, or time is over.
        """
        # A poll that begins without claims may end with some and messages: nobody knows yet how many are too many.
        if not any(len(lane.builder) for lane in self._lanes):
            return 1
        return min(lane.builder.most_messages(limit) for lane in self._lanes if lane.builder.claims)

    def release(self, partitions: Sequence[TopicPartition]) -> None:
        """Drop these partitions and what waits of them; their next owner reads it again."""
        for lane in self._lanes:
            lane.builder.release(partitions)
            # A session that commits nothing itself need not wait for what is in nobody's way any more.
            if lane.in_flight and lane.in_flight.store is not lane.store and not lane.builder.claims:
                lane.in_flight = None

    def add(self, items: Sequence[Decoded], registry_version: int, now: float) -> None:
        """Take events in the order in which they were read; a lane leaves those of others alone."""
        for lane in self._lanes:
            lane.builder.add(items, registry_version, now)

    def take(self, now: float) -> list[InFlight]:
        """Close the batches that are to be committed from now on, and return them.

        A large batch is committed beside others. One that is only old goes together with what waits in all lanes, and
        first waits for what is being committed, unless that takes too long.
        """
        free = self._waiting()
        urgent = [lane for lane in free if lane.builder.is_large() or (self._busy and _has_waited(lane, now))]
        if urgent or self._busy:
            return [self._take([lane]) for lane in _oldest_first(urgent)[: self._room]]
        if not any(lane.builder.is_due(now) for lane in free):
            return []
        is_short = any(lane.builder.is_halved for lane in free)
        return [self._take(_oldest_first(free)[:1] if is_short else free)]

    def take_all(self) -> list[InFlight]:
        """Close the batches of all lanes that are free and have any events."""
        return [self._take([lane]) for lane in self._waiting()]

    def _waiting(self) -> list[Lane]:
        return [lane for lane in self._lanes if lane.in_flight is None and len(lane.builder)]

    def _take(self, lanes: Sequence[Lane]) -> InFlight:
        taken = InFlight(lanes[0].store, together([lane.builder.take() for lane in lanes]))
        for lane in lanes:
            lane.in_flight = taken
        return taken

    def due_in_s(self, now: float) -> float | None:
        """Seconds until a batch is old enough to be started, 0 when it waits for a commit; None when no events wait."""
        if self.waits_for_commit:
            return 0.0
        return min((s for lane in self._lanes if (s := lane.builder.due_in_s(now)) is not None), default=None)

    def landed(self) -> Iterable[InFlight]:
        """Batches whose outcome is known, one after another; each frees its lanes."""
        for one in self.in_flight:
            if one.result.done():
                for lane in self._lanes:
                    if lane.in_flight is one:
                        lane.in_flight = None
                yield one


def _has_waited(lane: Lane, now: float) -> bool:
    return now - lane.builder.opened_at >= PATIENCE_S


def _oldest_first(lanes: Iterable[Lane]) -> list[Lane]:
    return sorted(lanes, key=lambda lane: lane.builder.opened_at)
