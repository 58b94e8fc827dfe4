"""A register rebuilt from its topic: what of the stream goes into the shadow, and how far it has come.

The shadow is a register of its own that gets exactly those events that the live register has been offered: those below
the live positions, of this register, less those that somebody has given up.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TypeAlias

from msgspec import structs

from ingest.domain.applying import Applied
from ingest.domain.batches import Batch, Decoded, Span
from ingest.domain.mapping import RegisterMapping
from ingest.domain.messages import Event, Message
from ingest.domain.plans import Outcome
from ingest.domain.positions import Claim, LogBounds, TopicPartition
from ingest.domain.registers import Register
from ingest.errors import PositionError, RegisterError


@dataclass(frozen=True, slots=True)
class Target:
    """How far the live register has read a partition; its rows name the event's place by `position_id`."""

    position_id: int
    next_offset: int
    topic_id: str | None = None


Targets: TypeAlias = Mapping[TopicPartition, Target]
GivenUp: TypeAlias = Mapping[tuple[str, int], Sequence[range]]
"""By topic and number, the offsets that somebody has decided to do without."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """A rebuild that is under way: the register, its declaration in the shadow, and the mapping of its events."""

    register: str
    declaration: Register
    begun_at: datetime
    resumed: bool
    mapping: RegisterMapping | None = None

    @property
    def name(self) -> str:
        """The register in which the rebuild writes."""
        return self.declaration.name


@dataclass(frozen=True, slots=True)
class Carried:
    """Movements by SQL: how many the live register has, and what had to be done about them in the shadow."""

    by_sql: int
    added: int
    removed: int


@dataclass(frozen=True, slots=True)
class CellDifference:
    """A sum that a rebuild changes; None where one of the two has no such cell."""

    grain: str
    period: date | None
    cell: Mapping[str, object]
    live: Mapping[str, object] | None
    rebuilt: Mapping[str, object] | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """How many sums differ, by grain, the first of them, and what verification finds in the shadow itself."""

    found: Mapping[str, int]
    differences: tuple[CellDifference, ...]
    unsound: int


@dataclass(slots=True)
class Replayed:
    """Counts of one run; what an interrupted one had read before is not among them. `mapped`: movements by rule."""

    events: int = 0
    of_others: int = 0
    given_up: int = 0
    movements: int = 0
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    mapped: Counter[int] = field(default_factory=Counter)

    def add(self, applied: Applied) -> None:
        """Count a committed batch."""
        self.movements += applied.movements
        self.outcomes.update(applied.outcomes)

    def include(self, other: "Replayed") -> None:
        """Add the counts of a part."""
        self.events += other.events
        self.of_others += other.of_others
        self.given_up += other.given_up
        self.movements += other.movements
        self.outcomes.update(other.outcomes)
        self.mapped.update(other.mapped)


@dataclass(slots=True)
class Collector:
    """Records that were read and are not applied yet, and how far that is in each partition."""

    claims: dict[TopicPartition, Claim]
    messages: list[Message] = field(default_factory=list)
    _bytes: int = 0
    _next_offsets: dict[TopicPartition, int] = field(default_factory=dict)

    def add(self, messages: Iterable[Message]) -> None:
        """Take records in the order of their partitions."""
        for message in messages:
            self.messages.append(message)
            self._bytes += len(message.value or b"")
            self._next_offsets[TopicPartition(message.topic, message.partition)] = message.offset + 1

    def is_full(self, max_events: int, max_bytes: int) -> bool:
        """Whether what is here makes a batch."""
        return len(self.messages) >= max_events or self._bytes >= max_bytes

    def finish(self, targets: Targets) -> None:
        """Everything below these offsets was read: logs end in offsets that no record has."""
        for topic_partition, target in targets.items():
            if target.next_offset > self.claims[topic_partition].next_offset:
                self._next_offsets[topic_partition] = target.next_offset

    def batch(self, items: Iterable[Decoded], registry_version: int) -> Batch:
        """The records as a batch, of which these are the events that count."""
        spans = tuple(
            Span(self.claims[topic_partition], next_offset, None)
            for topic_partition, next_offset in sorted(self._next_offsets.items())
            if next_offset > self.claims[topic_partition].next_offset
        )
        return Batch(tuple(items), spans, registry_version)

    def advance(self, batch: Batch) -> None:
        """Go on after a batch that is committed."""
        for span in batch.spans:
            self.claims[span.claim.topic_partition] = replace(span.claim, next_offset=span.next_offset)
        self.messages.clear()
        self._next_offsets.clear()
        self._bytes = 0


def sort_out(items: Iterable[Decoded], shadow: Shadow, given_up: GivenUp, counts: Replayed) -> list[Decoded]:
    """Keep what is of the register and not given up, mapped, with the shadow in place of the register."""
    kept: list[Decoded] = []
    for item in items:
        message = item.message
        counts.events += 1
        if item.register != shadow.register:
            counts.of_others += 1
        elif any(message.offset in span for span in given_up.get((message.topic, message.partition), ())):
            counts.given_up += 1
        else:
            kept.append(_into_shadow(item, shadow, counts))
    return kept


def _into_shadow(item: Decoded, shadow: Shadow, counts: Replayed) -> Decoded:
    mapping = shadow.mapping
    mapped = mapping.apply(item, counts.mapped) if mapping is not None and isinstance(item, Event) else item
    return structs.replace(mapped, register=shadow.name) if isinstance(mapped, Event) else mapped


def check_ahead(claims: Sequence[Claim], targets: Targets) -> None:
    """Fail when the shadow has read more than the live register: somebody has moved a position back."""
    for claim in claims:
        target = targets[claim.topic_partition]
        if claim.next_offset > target.next_offset:
            message = (
                f"{claim.topic_partition} was read up to {claim.next_offset} by the rebuild, and the live position is"
                f" {target.next_offset} now: it was moved back. Give this rebuild up (--discard) and begin anew"
            )
            raise PositionError(message)


def gaps_of(bounds: Sequence[LogBounds], targets: Targets) -> dict[TopicPartition, int]:
    """Where logs begin after the first event that the live register may have read."""
    return {b.topic_partition: b.low for b in bounds if b.low > 0 and targets[b.topic_partition].next_offset > 0}


def refuse_gaps(register: str, gaps: Mapping[TopicPartition, int], movements: int) -> None:
    """Say exactly what the topic does not have any more."""
    missing = "; ".join(f"offsets 0..{low - 1} of {topic_partition}" for topic_partition, low in sorted(gaps.items()))
    message = (
        f"register {register} cannot be rebuilt from its beginning: {missing} are not in the log any more (retention,"
        f" or deleted records), and {movements:,} of its movements come from there. They would be lost. Rebuild it"
        " from its movements (`tallystream rebuild REGISTER`), or say --accept-gap to begin where the log does"
    )
    raise RegisterError(message)
