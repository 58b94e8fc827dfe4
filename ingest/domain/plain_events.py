"""Reads events in which nothing needs a second look: nearly all of them, in a quarter of the time (of ten lines).

`PlainReader` takes an event only where it can prove that the careful way (`decoding`) takes it too and makes the same
of it. Whatever it is in doubt about it leaves to that one, which has the last word and gives every refusal: an
exponent, a value out of range, an escape that hides something, a key that may be there twice. So its own checks may be
coarse, as long as they err on one side.

- msgspec checks syntax, types, ranges of integers and lengths of text. It would take a key that is there twice: that
  is noticed by counting colons, of which there is one for each key, and those inside of values.
- All values of an event are written out as lines first; then one pattern checks all numbers of all lines at once.
  No value contains tabs, ends of lines, backslashes and NUL: escapes that could spell them are left to the careful way.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import GenericAlias
from typing import Annotated, Any, Final, Protocol, TypeAlias, cast

import msgspec
from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import astuple

from ingest.domain.decimals import INTEGER_RANGES, Reader, number_reader, plain_number
from ingest.domain.envelope import MAX_REVISION
from ingest.domain.keys import content_digest, id_digest
from ingest.domain.lines import NULL
from ingest.domain.messages import Event, EventType, Limits, Message, Movements
from ingest.domain.movements import PERIOD, PeriodReader
from ingest.domain.registers import Dimension, Register, Resource, varchar_length
from ingest.domain.strict_json import UnreadableError
from ingest.domain.values import dimension_reader, read_uuid

# All escapes are left to the careful way but \" and \/ and those of characters from U+00A0 on: they cannot spell what
# divides lines, nor NUL, nor the colons that are counted; nor half of a surrogate pair.
_hides_something: Final = re.compile(rb'\\(?!["/]|u(?!00[0-9]|[dD][89a-fA-F]))').search

# What msgspec and the readers raise for what they do not take; UnicodeDecodeError and the size of integers are
# ValueErrors.
_DOUBTS: Final = (msgspec.MsgspecError, UnreadableError, ValueError, RecursionError)

_ANY_FIELD: Final = r"[^\t\n]*+"
_NOT_NULL: Final = r"[^\t\n\\]++"
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
# 29 February is left to the careful way.
_DATE: Final = (
    r"(?!0000)[0-9]{4}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)

_PATTERNS: Final = {"uuid": _UUID, "date": _DATE}
_READ_AS: Final = {"boolean": bool | None, "timestamptz": str | None}

# By name it takes as long as reading a number.
_REPOST: Final = EventType.REPOST
_UNPOST: Final = EventType.UNPOST

_MAX_KNOWN_PERIODS: Final = 4096
_PLAIN_TIME: Final = len("2026-04-18T10:00:00+00:00")
_MAX_ZEROS: Final = 30  # with more of them the text may be longer than a number is allowed to be
_KEYS_OF_EVERY_EVENT: Final = 4  # id, type, register, recorder

_Row: TypeAlias = tuple[object, ...]
"""A movement's values in the register's order, then its own period, empty where it has none."""


class _PlainEvent(Protocol):
    """An event as msgspec has read it."""

    id: str
    type: EventType
    recorder: str | int
    revision: int | UnsetType | None
    period: str | UnsetType | None
    movements: list[msgspec.Struct] | UnsetType | None


@dataclass(frozen=True, slots=True)
class _Column:
    """What msgspec reads a column's values as, and which of the texts that come of it are canonical.

    Where there is a `reader`, it makes the text.
    """

    type: object
    canonical: str = _ANY_FIELD
    reader: Reader | None = None
    max_decimals: int = 0


class PlainReader:
    """Reads plain events of the registers it was given."""

    def __init__(self, registers: Mapping[str, Register], limits: Limits) -> None:
        self._max_bytes = limits.max_event_bytes
        readers = [_RegisterReader(register, limits) for register in registers.values()]
        self._readers = {reader.event_type: reader for reader in readers}
        # A union, even where there is one register: of a single type msgspec would not ask for the tag.
        union: Any = msgspec.defstruct("NoRegister", [], tag_field="register", tag="")
        for reader in readers:
            union |= reader.event_type
        self._decode: Callable[[bytes], msgspec.Struct] = msgspec.json.Decoder(union, float_hook=str).decode

    def read(self, message: Message) -> Event | None:
        """The event, or None where it is not plain."""
        value = message.value
        if value is None or len(value) > self._max_bytes or (b"\\" in value and _hides_something(value)):
            return None
        try:
            event = self._decode(value)
            reader = self._readers.get(type(event))
            return None if reader is None else reader.read(message, value, cast("_PlainEvent", event))
        except _DOUBTS:
            return None


class _RegisterReader:
    """Reads plain events of one register."""

    def __init__(self, register: Register, limits: Limits) -> None:
        columns = [_dimension(each, limits) for each in register.dimensions]
        columns += [_resource(each, limits) for each in register.resources]
        self.event_type = _event_type(register, columns, limits)
        self._name = register.name
        self._is_uuid = register.recorder_type == "uuid"
        self._max_movements = limits.max_movements
        self._periods = PeriodReader(register)
        # Events that come together mostly happened together: many have their time to the second in common.
        self._known_periods: dict[str, tuple[datetime, str]] = {}
        self._width = len(columns)
        self._template = "%s\t" * len(columns) + "%s"
        self._readers = [(number, column.reader) for number, column in enumerate(columns) if column.reader]
        self._is_canonical = _lines(column.canonical for column in columns)
        self._has_zeros = False
        self._without_zeros = _superfluous_zeros(len(register.resources), max(each.max_decimals for each in columns))

    def read(self, message: Message, value: bytes, event: _PlainEvent) -> Event | None:
        """The event, or None where it is not plain."""
        structs = event.movements or ()
        if not _has_its_movements(event) or len(structs) > self._max_movements:
            return None
        recorder = read_uuid(event.recorder) if self._is_uuid else str(event.recorder)
        if message.key is not None and message.key != recorder.encode():
            return None
        rows = list(map(astuple, structs))
        text = "\n".join([self._template % row for row in rows])
        own_periods = len(rows) - text.count("\t\n") - text.endswith("\t")
        keys = len(rows) * self._width + own_periods
        if value.count(b":") != keys + text.count(":") + recorder.count(":") + _colons(event):
            return None
        written = event.period if isinstance(event.period, str) else None
        movements = self._movements(rows, text, written, own_periods)
        if movements is None:
            return None
        revision = event.revision if type(event.revision) is int else None
        content = content_digest(event.type, revision, movements)
        return Event(
            message, event.type, self._name, recorder, event.id, revision, movements, id_digest(event.id), content
        )

    def _movements(self, rows: list[_Row], text: str, written: str | None, own_periods: int) -> Movements | None:
        period, ending = (None, "") if written is None else self._read_period(written)
        if not rows:
            return Movements()
        if self._readers or "None" in text:
            text = "\n".join([self._template % tuple(self._fields(row)) for row in rows])
        if self._has_zeros or not self._is_canonical(text):
            # Whoever writes 5.00 does so again: looking for zeros at once saves one of two looks at every line.
            shorter = self._without_zeros("", text)
            self._has_zeros = len(shorter) < len(text)
            text = shorter
            if not self._is_canonical(text):
                return None
        if own_periods:
            return self._with_own_periods(text.split("\n"), period)
        if period is None:
            return None
        return Movements(text.replace("\n", f"{ending}\n") + ending, len(rows), (period,))

    def _read_period(self, written: str) -> tuple[datetime, str]:
        """The period, and how it stands in a line."""
        known = self._known_periods.get(written)
        if known is None:
            if len(self._known_periods) >= _MAX_KNOWN_PERIODS:
                self._known_periods.clear()
            period = self._periods.read(written)
            known = self._known_periods[written] = period, _in_line(written, period)
        return known

    def _fields(self, row: _Row) -> list[object]:
        """Text in place of nulls, and of what needs a reader; that of a resource does not take null."""
        fields = [NULL if value is None else value for value in row]
        for number, read in self._readers:
            if row[number] is not None:
                fields[number] = read(row[number])
        return fields

    def _with_own_periods(self, lines: list[str], default: datetime | None) -> Movements | None:
        """Lines whose last field is a period as it was written, or empty."""
        known = {} if default is None else {"": (default, default.isoformat())}
        periods: set[datetime] = set()
        finished: list[str] = []
        for line in lines:
            fields, _, written = line.rpartition("\t")
            # Where a movement has none and the event neither, this is an empty text, and no time.
            period, ending = known.get(written) or self._read_period(written)
            periods.add(period)
            finished.append(f"{fields}\t{ending}")
        return Movements("\n".join(finished), len(finished), tuple(sorted(periods)))


def _in_line(written: str, period: datetime) -> str:
    """How a period stands in a line; most are written so, or with a Z, and `isoformat` takes as long as reading one."""
    plain = written.replace("Z", "+00:00")
    is_plain = len(plain) == _PLAIN_TIME and plain[10] == "T" and plain.endswith("+00:00")
    return plain if is_plain else period.isoformat()


def _has_its_movements(event: _PlainEvent) -> bool:
    """Whether there are movements where the type of event wants them, and none where not."""
    if event.movements:
        return event.type is not _UNPOST
    return event.type is (_REPOST if isinstance(event.movements, list) else _UNPOST)


def _colons(event: _PlainEvent) -> int:
    """The colons of the event itself, those of recorder and movements aside."""
    colons = _KEYS_OF_EVERY_EVENT + event.id.count(":") + (event.revision is not UNSET)
    colons += (event.period is not UNSET) + (event.movements is not UNSET)
    return colons + (event.period.count(":") if isinstance(event.period, str) else 0)


def _event_type(register: Register, columns: list[_Column], limits: Limits) -> type[msgspec.Struct]:
    """What msgspec reads a register's events as; names of columns may be those of methods, and so are not used."""
    declared = [each.name for each in register.dimensions] + [each.name for each in register.resources]
    names = {f"c{number}": name for number, name in enumerate(declared)}
    movement = msgspec.defstruct(
        "Movement",
        [*zip(names, (column.type for column in columns), strict=True), (PERIOD, str, "")],
        rename=names,
        forbid_unknown_fields=True,
        gc=False,
    )
    if register.recorder_type in INTEGER_RANGES:
        recorder = _integer(register.recorder_type)
    else:
        recorder = Annotated[str, Meta(min_length=1, max_length=limits.max_recorder_length)]
    return msgspec.defstruct(
        "Event",
        [
            ("id", Annotated[str, Meta(min_length=1, max_length=limits.max_id_length)]),
            ("type", EventType),
            ("recorder", recorder),
            ("revision", Annotated[int, Meta(ge=0, le=MAX_REVISION)] | UnsetType | None, UNSET),
            (PERIOD, str | UnsetType | None, UNSET),
            ("movements", GenericAlias(list, (movement,)) | UnsetType | None, UNSET),
        ],
        tag_field="register",
        tag=register.name,
        forbid_unknown_fields=True,
        gc=False,
    )


def _dimension(dimension: Dimension, limits: Limits) -> _Column:
    column_type = dimension.type
    if column_type in INTEGER_RANGES:
        return _Column(_integer(column_type) | None)
    if column_type == "text" or column_type.startswith("varchar"):
        longest = min(varchar_length(column_type) or limits.max_text_length, limits.max_text_length)
        return _Column(Annotated[str, Meta(max_length=longest)] | None)
    if column_type in _PATTERNS:
        pattern = rf"(?:{_PATTERNS[column_type]}|\\N)"
        return _Column(str | None, pattern)
    if column_type in _READ_AS:
        return _Column(_READ_AS[column_type], reader=dimension_reader(dimension, limits))
    canonical = rf"(?:{plain_number(column_type, limits).canonical}|\\N)"
    return _Column(Any, canonical)


def _resource(resource: Resource, limits: Limits) -> _Column:
    column_type = resource.type
    if column_type not in INTEGER_RANGES and not column_type.startswith("numeric"):
        return _Column(Any, _NOT_NULL, number_reader(column_type, limits))
    number = plain_number(column_type, limits)
    read_as = _integer(column_type) | str if column_type in INTEGER_RANGES else Any
    return _Column(read_as, number.canonical, max_decimals=number.max_decimals)


def _integer(column_type: str) -> Any:  # noqa: ANN401  it is a special form
    low, high = INTEGER_RANGES[column_type]
    return Annotated[int, Meta(ge=low, le=high)]


def _lines(fields: Iterable[str]) -> Callable[[str], object]:
    """Tells whether lines consist of such fields, and any period."""
    line = "\t".join([*fields, _ANY_FIELD])
    return re.compile(rf"{line}(?:\n{line})*+").fullmatch


def _superfluous_zeros(resources: int, max_decimals: int) -> Callable[[str, str], str]:
    """Replaces zeros at the end of decimals of the resources, those that count for nothing.

    Groups in place of what is looked back at would be a call of Python for every number: four times as slow.
    """
    zeros = "|".join([r"\.0", *(rf"0(?<=\.[0-9]{{{number}}}[1-9]0)" for number in range(max_decimals - 1))])
    is_resource = rf"(?=\t(?:[^\t\n]*+\t){{0,{resources - 1}}}+[^\t\n]*+(?:\n|\Z))"
    return re.compile(rf"(?:{zeros})0{{0,{_MAX_ZEROS}}}{is_resource}").sub
