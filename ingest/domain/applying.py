"""What passes between the worker and the store that applies its batches."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from ingest.domain.messages import Reason
from ingest.domain.plans import Outcome
from ingest.domain.positions import Claim, TopicPartition
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
class Applied:
    """What a committed batch did; `seconds` splits its time by phase."""

    batch_id: int | None = None
    outcomes: Mapping[Outcome, int] = field(default_factory=dict)
    reasons: Mapping[Reason, int] = field(default_factory=dict)
    movements: int = 0
    seconds: Mapping[str, float] = field(default_factory=dict)
