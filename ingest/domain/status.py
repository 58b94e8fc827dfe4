"""Where a group stands: its positions against the logs that it reads."""

from dataclasses import dataclass, fields
from datetime import datetime

from ingest.domain.compacting import PendingDeltas
from ingest.domain.positions import LogBounds, check_position
from ingest.errors import PositionError


@dataclass(frozen=True, slots=True)
class StoredPosition:
    """One partition's position, with the sums of its batches."""

    topic: str
    partition: int
    topic_id: str | None
    next_offset: int
    epoch: int
    owner: str
    last_event_at: datetime | None
    read_at: datetime
    events: int
    applied: int
    duplicates: int
    stale: int
    dead_letters: int
    movements: int
    last_batch_id: int | None
    last_committed_at: datetime | None
    position_id: int
    dead_letters_in_a_row: int


@dataclass(frozen=True, slots=True)
class PartitionStatus(StoredPosition):
    """A position and its log: how far behind it is, and what keeps it from being read."""

    log_start: int | None
    log_end: int | None
    lag_records: int | None
    lag_seconds: float | None
    problem: str | None


@dataclass(frozen=True, slots=True)
class Status:
    """A whole group; `dead_letters` holds state, reason and count."""

    group: str
    partitions: tuple[PartitionStatus, ...]
    dead_letters: tuple[tuple[str, str, int], ...]
    pending_deltas: tuple[PendingDeltas, ...]
    broker_problem: str | None


def describe_position(
    position: StoredPosition, bounds: LogBounds | None, streak: PositionError | None = None
) -> PartitionStatus:
    """Compare a position with its log; without bounds the lag is unknown. `streak` stops it for its dead letters.

    The lag in seconds is the time since the last applied event was produced, and 0 when nothing waits.
    """
    stored = {field.name: getattr(position, field.name) for field in fields(position)}
    problem = str(streak) if streak else None
    if bounds is None:
        return PartitionStatus(
            **stored, log_start=None, log_end=None, lag_records=None, lag_seconds=None, problem=problem
        )
    try:
        check_position(position.next_offset, position.topic_id, bounds)
    except PositionError as error:
        problem = str(error)
    lag_records = max(0, bounds.high - position.next_offset)
    lag_seconds = None
    if lag_records == 0:
        lag_seconds = 0.0
    elif position.last_event_at is not None:
        lag_seconds = max(0.0, (position.read_at - position.last_event_at).total_seconds())
    return PartitionStatus(
        **stored,
        log_start=bounds.low,
        log_end=bounds.high,
        lag_records=lag_records,
        lag_seconds=lag_seconds,
        problem=problem,
    )
