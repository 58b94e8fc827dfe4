"""What the status page shows and only the database knows: registers, what waits to be folded, dead letters."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from ingest.domain.compacting import PendingDeltas
from ingest.domain.registers import Register


@dataclass(frozen=True, slots=True)
class LetterSummary:
    """A dead letter without anything that its event said."""

    id: int
    reason: str
    register: str | None
    topic: str | None
    partition: int | None
    offset: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Overview:
    """As of one moment; `waiting` counts the dead letters that wait, by reason; `letters` are the newest of them.

    `oldest_snapshot` is for how many transactions VACUUM has been held back, `dead_rows` what it has not removed.
    """

    registers: tuple[Register, ...] = ()
    pending: tuple[PendingDeltas, ...] = ()
    waiting: Mapping[str, int] = field(default_factory=dict)
    letters: tuple[LetterSummary, ...] = ()
    oldest_snapshot: int = 0
    dead_rows: int = 0
