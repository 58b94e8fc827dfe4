"""What passes between the worker and the store that applies its batches."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ingest.domain.batches import Batch
from ingest.domain.messages import Reason
from ingest.domain.plans import Outcome
from ingest.domain.positions import Claim, LogBounds, TopicPartition
from ingest.domain.registers import Register
from ingest.errors import PositionError


@dataclass(frozen=True, slots=True)
class Registry:
    """All declarations, as of one version of them."""

    version: int
    registers: Mapping[str, Register]


@dataclass(frozen=True, slots=True)
class Claims:
    """What came of claiming partitions: those that are ours now, and those that must not be read, with the reason."""

    taken: tuple[Claim, ...]
    stopped: tuple[tuple[TopicPartition, PositionError], ...]


class Standing(StrEnum):
    """Where the positions of a batch stand, when its commit's outcome is unknown."""

    COMMITTED = "committed"
    NOT_COMMITTED = "not_committed"
    FENCED = "fenced"


@dataclass(frozen=True, slots=True)
class Stop:
    """A partition that a batch stopped: what lies at and behind `next_offset` was not dealt with."""

    topic_partition: TopicPartition
    next_offset: int
    error: PositionError


@dataclass(frozen=True, slots=True)
class Applied:
    """What a committed batch did; `registers` counts its movements by register, `seconds` splits its time by phase.

    Of partitions in `stopped` the batch was applied only up to the offset that stands there.
    """

    batch_id: int | None = None
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    reasons: Mapping[Reason, int] = field(default_factory=dict)
    movements: int = 0
    registers: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    stopped: tuple[Stop, ...] = ()


class Store(Protocol):
    """Where batches go: PostgreSQL."""

    def registry(self) -> Registry:
        """Read the declarations."""

    def claim(self, bounds: Sequence[LogBounds]) -> Claims:
        """Take partitions."""

    def apply(self, batch: Batch, registry: Registry) -> Applied:
        """Apply a batch in one transaction."""

    def standing(self, batch: Batch) -> Standing:
        """Tell what became of a batch whose commit was interrupted."""

    def holds(self, claims: Sequence[Claim]) -> bool:
        """Tell whether all positions are where these claims have them."""

    def close(self) -> None:
        """Give back the connection."""
