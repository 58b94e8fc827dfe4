"""What comes in from Kafka and what becomes of it: an `Event`, or a `Refusal` with its reason.

Types only; `decoding` turns one into the other. A new reason code is added here and nowhere else:
the reference table is generated from this enumeration.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Self

import msgspec

from ingest.domain.lines import as_line, from_line

# There is one of these for every record, so they are structs: made in 0.15 µs, where a frozen dataclass takes 1.0.
# None of them can be part of a cycle, so that the garbage collector need not look at them.


class Message(msgspec.Struct, frozen=True, gc=False):
    """One Kafka record as it was read."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int | None
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class EventType(StrEnum):
    """What an event does to its recorder's movements."""

    MOVEMENT = "movement"
    UNPOST = "unpost"
    REPOST = "repost"


@dataclass(frozen=True, slots=True)
class Movement:
    """One row to be: `values` holds dimensions, then resources, in the register's order.

    Values are canonical PostgreSQL text, so equal values have equal text: no exponent, no
    superfluous zero or sign, `t`/`f`, lower-case UUIDs. `period` is in UTC.
    """

    period: datetime
    values: tuple[str | None, ...]


class Movements(msgspec.Struct, frozen=True, gc=False):
    """An event's movements, in order: written out once as lines of COPY, and read back only by who wants to look.

    `periods` are their different periods, in order of time.
    """

    text: str = ""
    count: int = 0
    periods: tuple[datetime, ...] = ()

    @classmethod
    def of(cls, movements: Iterable[Movement]) -> Self:
        """Write them out."""
        items = tuple(movements)
        lines = [as_line(item.values, item.period) for item in items]
        return cls("\n".join(lines), len(lines), tuple(sorted({item.period for item in items})))

    @property
    def lines(self) -> list[str]:
        """A line for each of them."""
        return self.text.split("\n") if self.count else []

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Movement]:
        for line in self.lines:
            values, period = from_line(line)
            yield Movement(period, values)

    def __getitem__(self, index: int) -> Movement:
        return tuple(self)[index]


class Event(msgspec.Struct, frozen=True, gc=False):
    """An accepted event; the digests are xxh3 64 as signed numbers, as PostgreSQL's bigint is."""

    message: Message
    type: EventType
    register: str
    recorder: str
    id: str
    revision: int | None
    movements: Movements
    id_digest: int
    content_digest: int


class Reason(StrEnum):
    """Why an event was refused: a code for machines, a `description` for the reference."""

    description: str

    def __new__(cls, code: str, description: str) -> Self:
        member = str.__new__(cls, code)
        member._value_ = code
        member.description = description
        return member

    # The record as a whole.
    EMPTY_VALUE = "empty_value", "The record has no value, and no register takes that as an unpost."
    TOO_LARGE = "too_large", "The value is longer than an event may be."
    NOT_UTF8 = "not_utf8", "The value is not valid UTF-8."
    NOT_JSON = "not_json", "The value is not one JSON document."
    TOO_DEEP = "too_deep", "Arrays and objects are nested deeper than allowed."
    NOT_AN_OBJECT = "not_an_object", "Something else stands where a JSON object has to be."
    DUPLICATE_KEY = "duplicate_key", "A JSON object has the same key twice."
    KEY_MISMATCH = "key_mismatch", "The record's key is not the event's recorder."
    UNKNOWN_SCHEMA = "unknown_schema", "The value names a schema that the schema registry does not have."
    NOT_OF_SCHEMA = "not_of_schema", "The value cannot be read with the schema that it names."
    INVALID_CLOUDEVENT = (
        "invalid_cloudevent",
        "Attributes of a CloudEvent are missing, not of version 1.0, or contradict the data.",
    )

    # The event's own keys.
    UNKNOWN_KEY = "unknown_key", "The event has a key that the contract does not know."
    MISSING_KEY = "missing_key", "A key that the event needs is absent or null."
    UNEXPECTED_KEY = "unexpected_key", "The key exists but has no place in an event of this type."
    UNKNOWN_TYPE = "unknown_type", "The type is none of movement, unpost and repost."
    UNKNOWN_REGISTER = "unknown_register", "No register has this name."
    NO_MOVEMENTS = "no_movements", "A movement event has an empty list of movements."
    TOO_MANY_MOVEMENTS = "too_many_movements", "The event has more movements than one may have."

    # The columns of a movement.
    UNKNOWN_COLUMN = (
        "unknown_column",
        "A movement has a key that is neither a dimension nor a resource of its register.",
    )
    MISSING_DIMENSION = "missing_dimension", "A movement lacks a dimension; null has to be written."
    MISSING_RESOURCE = "missing_resource", "A movement lacks a resource, or it is null."

    # Values.
    WRONG_TYPE = "wrong_type", "The value is of another JSON type than expected."
    NOT_A_NUMBER = "not_a_number", "The text is not a decimal number."
    NOT_FINITE = "not_finite", "The number is NaN or infinite."
    TOO_MANY_DIGITS = "too_many_digits", "The number has more digits than any column may hold."
    INEXACT = "inexact", "The number has more decimals than the column keeps."
    OUT_OF_RANGE = "out_of_range", "The number does not fit the column's type."
    EMPTY_TEXT = "empty_text", "The text is empty where it has to name something."
    INVALID_TEXT = "invalid_text", "The text contains NUL or half of a surrogate pair."
    TEXT_TOO_LONG = "text_too_long", "The text is longer than allowed."
    INVALID_UUID = "invalid_uuid", "The text is not a UUID with hyphens."
    INVALID_DATE = "invalid_date", "The text is not a date of the form YYYY-MM-DD."
    INVALID_TIME = "invalid_time", "The text is not an RFC 3339 time with an offset."
    PERIOD_OUT_OF_RANGE = (
        "period_out_of_range",
        "The period's day, in the register's time zone, is outside the register's window.",
    )

    # Found later than in decoding: against what the recorder had before, or by the database.
    ID_CONFLICT = "id_conflict", "The recorder has an event of this id with other content."
    REVISION_CONFLICT = (
        "revision_conflict",
        "The recorder has an event of this revision with other content.",
    )
    REFUSED_BY_DATABASE = "refused_by_database", "PostgreSQL refused the event's data."


@dataclass(frozen=True, slots=True)
class Refusal:
    """A refused event; `path` is like `movements[3].quantity`, empty for the record as a whole.

    Every text here is bounded and can be stored in PostgreSQL, whatever the event contained;
    `register`, `recorder` and `event_id` are as the event says, where it says so legibly.
    `sqlstate` is PostgreSQL's, where PostgreSQL refused.
    """

    message: Message
    reason: Reason
    path: str
    detail: str
    register: str | None = None
    recorder: str | None = None
    event_id: str | None = None
    sqlstate: str | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """What one event may be at most; lengths of text are in characters."""

    max_event_bytes: int = 10 * 1024 * 1024
    max_depth: int = 32
    max_movements: int = 100_000
    max_digits: int = 38
    max_scale: int = 18
    max_text_length: int = 1000
    max_recorder_length: int = 200
    max_id_length: int = 200
