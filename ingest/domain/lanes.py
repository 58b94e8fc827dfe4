"""Lanes: each commits one batch at a time over a session of its own, so that while one waits the next is at work.

A partition is in one lane for as long as it is ours, so its events are applied in order. To PostgreSQL lanes are what
several workers are: whatever keeps those from one another's way holds for them. So workers share them: of a topic's
partitions half, and half of the lanes commit at a time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, Protocol

from ingest.domain.applying import Applied, Store
from ingest.domain.batches import Batch, BatchBuilder, BatchLimits, Decoded
from ingest.domain.positions import Claim, TopicPartition

# How long after a commit is through the batch that waits for it may be started: what reads looks so often.
LANDING_S: Final = 0.005


class Background(Protocol):
    """Where batches are committed while the next ones are read."""

    def start(self, work: Callable[[], None]) -> None:
        """Begin the work, and return."""

    def wait(self, results: Sequence[Future[Applied]], timeout_s: float) -> bool:
        """Return when one of the results is there, or the time is over; says which."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The batch that a lane commits."""

    batch: Batch
    result: Future[Applied]


@dataclass(slots=True, eq=False)
class Lane:
    """A session, the batch that is committed over it, and the events that wait for it."""

    store: Store
    builder: BatchBuilder
    in_flight: InFlight | None = None
    failing: bool = False

    def take(self) -> InFlight:
        """Close the batch that waits; it is in flight from here on."""
        self.in_flight = InFlight(self.builder.take(), Future())
        return self.in_flight

    def land(self) -> InFlight | None:
        """Give out the batch whose outcome is known, if there is one; the lane is free then."""
        if self.in_flight is None or not self.in_flight.result.done():
            return None
        landed, self.in_flight = self.in_flight, None
        return landed


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
        return [lane.in_flight for lane in self._lanes if lane.in_flight is not None]

    @property
    def is_blocked(self) -> bool:
        """Whether nothing more should be read before a commit is through."""
        return any(lane.builder.is_full() and (lane.in_flight or not self._room) for lane in self._lanes)

    @property
    def is_failing(self) -> bool:
        """Whether a batch fails and is tried again."""
        return any(lane.failing for lane in self._lanes)

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
        # What is left of an earlier claim is in nobody's way.
        busy = sum(lane.in_flight is not None and bool(lane.builder.claims) for lane in self._lanes)
        return max(0, self._share(self.claims) - busy)

    def most_messages(self, limit: int) -> int:
        """How many messages to read at a time: no more than fit into the smallest of the lanes' batches."""
        # A poll that begins without claims may end with some and messages: nobody knows yet how many are too many.
        return min((lane.builder.most_messages(limit) for lane in self._lanes if lane.builder.claims), default=1)

    def release(self, partitions: Sequence[TopicPartition]) -> None:
        """Drop these partitions and what waits of them; their next owner reads it again."""
        for lane in self._lanes:
            lane.builder.release(partitions)

    def add(self, items: Sequence[Decoded], registry_version: int, now: float) -> None:
        """Take events in the order in which they were read; a lane leaves those of others alone."""
        for lane in self._lanes:
            lane.builder.add(items, registry_version, now)

    def due(self, now: float) -> list[Lane]:
        """Lanes that may go on now and have a batch that is large or old enough, the oldest first."""
        due = [lane for lane in self._lanes if lane.in_flight is None and lane.builder.is_due(now)]
        return sorted(due, key=lambda lane: lane.builder.opened_at)[: self._room]

    def waiting(self) -> list[Lane]:
        """Lanes that are free and have any events."""
        return [lane for lane in self._lanes if lane.in_flight is None and len(lane.builder)]

    def due_in_s(self, now: float) -> float | None:
        """Seconds until there may be a batch to start, when it is old enough or can go on; None when no events wait."""
        ready = self.waiting() if self._room else []
        times = [s for lane in ready if (s := lane.builder.due_in_s(now)) is not None]
        if any(len(lane.builder) for lane in self._lanes if lane not in ready):
            times.append(LANDING_S)
        return min(times, default=None)

    def landed(self) -> Iterable[InFlight]:
        """Batches whose outcome is known, one after another; each frees its lane."""
        for lane in self._lanes:
            if (landed := lane.land()) is not None:
                yield landed
