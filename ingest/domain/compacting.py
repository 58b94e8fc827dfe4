"""What the compactor and its parts tell one another: slices of deltas, and dead letters on their way to Kafka."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

FIRST_KEY: Final = -(2**63)
"""No cell has a smaller key."""

LAST_KEY: Final = 2**63 - 1
"""Nor a larger one."""

HEADER_PREFIX: Final = "tallystream."
CONNECT_PREFIX: Final = "__connect.errors."


@dataclass(frozen=True, slots=True)
class Slice:
    """Which pending deltas to fold: at most so many of those that are old enough, in the order of their cells' keys."""

    register: str
    most: int
    min_age_ms: int = 0
    first_key: int = FIRST_KEY


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of a slice; `last_key` is its last cell's, and None when nothing was found from where it began."""

    deltas: int
    last_key: int | None
    problem: str | None = None

    @property
    def next_key(self) -> int | None:
        """With which cell to go on: with the same, of which there may be more, but not where it cannot be added up."""
        if self.problem is None or self.last_key is None:
            return self.last_key
        return None if self.last_key == LAST_KEY else self.last_key + 1


@dataclass(frozen=True, slots=True)
class PendingDeltas:
    """What waits to be folded in one register."""

    register: str
    high_write: bool
    deltas: int
    age_s: float | None

    def is_late(self, alarm_ms: int) -> bool:
        """Tell whether the oldest has waited for longer than it should."""
        return self.age_s is not None and self.age_s * 1000 > alarm_ms


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter with the record that it was, byte for byte."""

    id: int
    reason: str
    path: str
    detail: str
    sqlstate: str | None
    register: str | None
    recorder: str | None
    event_id: str | None
    batch_id: int
    group: str | None
    topic: str | None
    partition: int | None
    offset: int
    event_at: datetime | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What is sent to the topic of dead letters."""

    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    timestamp_ms: int | None


def record_of(letter: Letter) -> Record:
    """Return a dead letter as a record: key, value and headers as they were, then what Kafka Connect says, then ours.

    Tools for the dead letters of Kafka Connect find its headers where they look for them; the exact reason is in ours.
    """
    connect = (
        ("topic", letter.topic),
        ("partition", letter.partition),
        ("offset", letter.offset),
        ("connector.name", letter.group),
        ("task.id", letter.partition),
        ("stage", "TASK_PUT" if letter.sqlstate else "VALUE_CONVERTER"),
        ("class.name", "tallystream"),
        ("exception.class.name", letter.reason),
        ("exception.message", f"{letter.path}: {letter.detail}" if letter.path else letter.detail),
    )
    ours = (
        ("dead_letter_id", letter.id),
        ("reason", letter.reason),
        ("path", letter.path),
        ("detail", letter.detail),
        ("sqlstate", letter.sqlstate),
        ("register", letter.register),
        ("recorder", letter.recorder),
        ("event_id", letter.event_id),
        ("batch_id", letter.batch_id),
    )
    timestamp_ms = None if letter.event_at is None else round(letter.event_at.timestamp() * 1000)
    added = (*_headers(CONNECT_PREFIX, connect), *_headers(HEADER_PREFIX, ours))
    return Record(letter.key, letter.value, (*letter.headers, *added), timestamp_ms)


def _headers(prefix: str, values: Iterable[tuple[str, str | int | None]]) -> Iterable[tuple[str, bytes | None]]:
    return ((prefix + name, str(value).encode()) for name, value in values if value is not None)
