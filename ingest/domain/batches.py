"""What is applied in one transaction: decoded events, and how far each partition has been read.

The builder decides by its own clock-free rules when a batch is due (rows, events, bytes, age); it never computes an
expected position from message offsets, because offsets have gaps (compaction, transaction markers).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

from ingest.domain.messages import Event, Message, Refusal
from ingest.domain.positions import Claim, PartitionKey, TopicPartition

# After a fail-over versions may grow smaller: no order among them says which of two is the present one.
SEVERAL_VERSIONS: Final = -1

# So often halved, a batch of usual settings is one event.
MOST_ATTEMPTS: Final = 17
# What ended a process may come again with a batch of twice the size: there has to be much progress before.
BATCHES_PER_DOUBLING: Final = 50

Decoded: TypeAlias = Event | Refusal


@dataclass(frozen=True, slots=True)
class Span:
    """What a batch takes from one partition: from `claim.next_offset` to before `next_offset`."""

    claim: Claim
    next_offset: int
    last_timestamp_ms: int | None


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in the order in which they were read, and the spans they came from, in partition order.

    `registry_version` is that of the declarations with which they were decoded; under several, none that there is.
    Whoever applies it calls `confirm` before the commit, which raises unless the events are of what was claimed.
    """

    items: tuple[Decoded, ...]
    spans: tuple[Span, ...]
    registry_version: int
    confirm: Callable[[], None] = field(default=lambda: None, compare=False)

    @property
    def messages(self) -> tuple[Message, ...]:
        """The records behind the events, to decode them again."""
        return tuple(item.message for item in self.items)

    @property
    def next_offsets(self) -> Mapping[TopicPartition, int]:
        """Where reading goes on after this batch."""
        return {span.claim.topic_partition: span.next_offset for span in self.spans}


def together(batches: Sequence[Batch]) -> Batch:
    """Return one batch of several that have no partition in common."""
    if len(batches) == 1:
        return batches[0]
    versions = {batch.registry_version for batch in batches}
    return Batch(
        tuple(item for batch in batches for item in batch.items),
        tuple(sorted((span for batch in batches for span in batch.spans), key=lambda span: span.claim.topic_partition)),
        versions.pop() if len(versions) == 1 else SEVERAL_VERSIONS,
    )


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """When a batch is due: whichever comes first.

    A batch that is due while the one before it is being committed goes on growing, to `growth` times these movements
    and events: the further PostgreSQL is behind, the less each movement costs it. Bytes bound memory: they do not grow.

    All of it is halved with every attempt at a partition from the second on, because memory may be what was lacking,
    and doubled again with every fifty batches.
    """

    max_movements: int = 5_000
    max_events: int = 1_250
    max_bytes: int = 16 * 1024 * 1024
    max_age_ms: int = 20
    growth: int = 20


@dataclass(slots=True)
class BatchBuilder:
    """Collects decoded events of the partitions that are claimed, until a batch is due."""

    limits: BatchLimits
    _claims: dict[PartitionKey, Claim] = field(default_factory=dict)
    _items: list[Decoded] = field(default_factory=list)
    _next_offsets: dict[PartitionKey, int] = field(default_factory=dict)
    _timestamps: dict[PartitionKey, int | None] = field(default_factory=dict)
    _movements: int = 0
    _bytes: int = 0
    _opened_at: float = 0.0
    _registry_version: int = 0
    _batches: int = 0

    def __len__(self) -> int:
        """The number of events that wait."""
        return len(self._items)

    @property
    def claims(self) -> Mapping[TopicPartition, Claim]:
        """The claimed partitions, each with the offset up to which batches were taken."""
        return {claim.topic_partition: claim for claim in self._claims.values()}

    @property
    def opened_at(self) -> float:
        """When the first of the events that wait was taken; seconds of the same clock."""
        return self._opened_at

    def claim(self, claims: Iterable[Claim]) -> None:
        """Begin to accept events of these partitions; what waits of an earlier claim is read again under this one."""
        taken: dict[PartitionKey, Claim] = {claim.topic_partition: claim for claim in claims}
        self.release(taken)
        self._claims.update(taken)
        self._batches = 0

    def release(self, partitions: Iterable[PartitionKey]) -> None:
        """Drop these partitions and what waits of them; their next owner reads it again."""
        gone = set(partitions)
        if not gone:
            return
        kept = [item for item in self._items if (item.message.topic, item.message.partition) not in gone]
        for topic_partition in gone:
            self._claims.pop(topic_partition, None)
            self._next_offsets.pop(topic_partition, None)
            self._timestamps.pop(topic_partition, None)
        self._replace_items(kept)

    def give_up(self) -> tuple[Sequence[Claim], Sequence[Decoded], int]:
        """Accept no more events; return the claims, the events that wait and the version they were decoded with."""
        given = list(self._claims.values()), self._items, self._registry_version
        self.release(list(self._claims))
        return given

    def add(self, items: Iterable[Decoded], registry_version: int, now: float) -> None:
        """Take events in the order in which they were read; `now` is in seconds of any steady clock."""
        for item in items:
            message = item.message
            partition = message.topic, message.partition
            claim = self._claims.get(partition)
            if claim is None or message.offset < self._next_offsets.get(partition, claim.next_offset):
                continue
            if not self._items:
                self._opened_at = now
                self._registry_version = registry_version
            self._items.append(item)
            self._next_offsets[partition] = message.offset + 1
            self._timestamps[partition] = message.timestamp_ms
            self._count(item)
        if registry_version != self._registry_version:
            self._registry_version = SEVERAL_VERSIONS

    def due_in_s(self, now: float) -> float | None:
        """Seconds until the open batch is old enough; None when nothing waits."""
        return max(0.0, self.limits.max_age_ms / 1000 - (now - self._opened_at)) if self._items else None

    def is_due(self, now: float) -> bool:
        """Whether the batch is old enough to be applied, however small it is."""
        return bool(self._items) and (now - self._opened_at) * 1000 >= self.limits.max_age_ms

    def is_large(self) -> bool:
        """Whether the batch is large enough to be applied, however old it is."""
        return bool(self._items) and self._has_reached(1)

    def is_full(self) -> bool:
        """Whether nothing more should be read before the batch is taken."""
        return self._has_reached(self.limits.growth)

    def most_messages(self, limit: int) -> int:
        """How many messages to read at a time, which is at most the limit: no more than fit into halved batches."""
        return max(1, limit >> self._halvings)

    def take(self) -> Batch:
        """Close the batch; the next one expects the positions that this one leaves behind."""
        self._count_attempts_less()
        spans = tuple(
            Span(self._claims[partition], next_offset, self._timestamps[partition])
            for partition, next_offset in sorted(self._next_offsets.items())
        )
        batch = Batch(tuple(self._items), spans, self._registry_version)
        for span in spans:
            topic_partition = span.claim.topic_partition
            self._claims[topic_partition] = replace(span.claim, next_offset=span.next_offset)
        self._next_offsets.clear()
        self._timestamps.clear()
        self._replace_items([])
        return batch

    @property
    def is_halved(self) -> bool:
        """Whether batches are smaller than the limits say, because memory may be what was lacking."""
        return self._halvings > 0

    @property
    def _halvings(self) -> int:
        return max(0, max((claim.attempts for claim in self._claims.values()), default=0) - 1)

    def _count_attempts_less(self) -> None:
        """Have the batch itself tell, in its transaction, what it proves: fifty batches, or one of the full size."""
        self._batches += 1
        if self._batches % BATCHES_PER_DOUBLING and (self._halvings or not self.is_full()):
            return
        for partition, claim in self._claims.items():
            if claim.attempts:
                self._claims[partition] = replace(claim, attempts=claim.attempts - 1)

    def _has_reached(self, times: int) -> bool:
        limits, halvings = self.limits, self._halvings
        return (
            self._movements >= max(1, limits.max_movements * times >> halvings)
            or len(self._items) >= max(1, limits.max_events * times >> halvings)
            or self._bytes >= max(1, limits.max_bytes >> halvings)
        )

    def _replace_items(self, items: list[Decoded]) -> None:
        self._items = items
        self._movements = self._bytes = 0
        for item in items:
            self._count(item)

    def _count(self, item: Decoded) -> None:
        self._bytes += len(item.message.value or b"")
        if isinstance(item, Event):
            self._movements += item.movements.count
