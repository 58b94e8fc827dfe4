"""Reads the values of one column: JSON in, canonical PostgreSQL text out, or the reason why not.

Promises that equal values get equal text and different ones different text; text is taken as it is, so case, spaces
at the end and the ways to compose a letter all count. Each reader is made once, for its column.
"""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from typing import Final

from ingest.domain.decimals import INTEGER_RANGES, Reader, integer_reader, number_reader
from ingest.domain.messages import Limits, Reason
from ingest.domain.registers import Dimension, varchar_length
from ingest.domain.strict_json import UnreadableError, described, shown

_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DIGITS: Final = re.compile(r"-?(?:0|[1-9][0-9]{0,18})")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
)

# The usual mistakes, so that whoever made one reads what it was.
_MISTAKES_IN_TIMES: Final = (
    (re.compile(r".{10}[Tt ]24:.*"), "the hour 24 is not taken; it is 00:00 of the next day"),
    (re.compile(r".{10}[Tt ]..:..:60.*"), "leap seconds are not taken"),
    (re.compile(r".{10}[Tt ].{8}\.[0-9]{7,}.*"), "more than 6 decimals of a second"),
    (re.compile(r"[0-9-]{10} .*"), "a T goes between date and time"),
    (
        re.compile(r"[0-9-]{10}[Tt][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?"),
        "the offset is missing, such as Z or +02:00",
    ),
)


def dimension_reader(dimension: Dimension, limits: Limits) -> Reader:
    """Reads this dimension's values; null is the caller's business."""
    column_type = dimension.type
    if column_type in INTEGER_RANGES:
        return integer_reader(column_type)
    if column_type == "text" or column_type.startswith("varchar"):
        return text_reader(min(varchar_length(column_type) or limits.max_text_length, limits.max_text_length))
    return _OTHER_READERS.get(column_type) or number_reader(column_type, limits)


def recorder_reader(recorder_type: str, limits: Limits) -> Reader:
    """Reads the recorder as its register types it."""
    if recorder_type in INTEGER_RANGES:
        return integer_reader(recorder_type)
    return read_uuid if recorder_type == "uuid" else name_reader(limits.max_recorder_length)


def recorder_text_reader(recorder_type: str, limits: Limits) -> Callable[[str], str]:
    """Reads the recorder out of a record's key, which is always text."""
    read = recorder_reader(recorder_type, limits)
    if recorder_type not in INTEGER_RANGES:
        return read

    def read_digits(text: str) -> str:
        if not _DIGITS.fullmatch(text):
            raise UnreadableError(Reason.WRONG_TYPE, f"{shown(text)} where an integer is expected")
        return read(int(text))

    return read_digits


def text_reader(max_length: int) -> Reader:
    """Text that PostgreSQL can store, up to a length in characters."""

    def read(value: object) -> str:
        if type(value) is not str:
            raise UnreadableError(Reason.WRONG_TYPE, f"{described(value)} where a string is expected")
        if len(value) > max_length:
            raise UnreadableError(Reason.TEXT_TOO_LONG, f"{len(value)} characters, and {max_length} are allowed")
        if "\0" in value or not (value.isascii() or _is_encodable(value)):
            raise UnreadableError(Reason.INVALID_TEXT, f"NUL or half of a surrogate pair in {shown(value)}")
        return value

    return read


def name_reader(max_length: int) -> Reader:
    """Text that names something, and so is not empty."""
    read_text = text_reader(max_length)

    def read(value: object) -> str:
        text = read_text(value)
        if not text:
            raise UnreadableError(Reason.EMPTY_TEXT, "an empty string names nothing")
        return text

    return read


def read_uuid(value: object) -> str:
    """A UUID in the usual form with hyphens; upper case is the same UUID."""
    text = _string(value)
    if not _UUID.fullmatch(text):
        raise UnreadableError(Reason.INVALID_UUID, f"{shown(text)} is not a UUID")
    return text.lower()


def read_time(value: object) -> datetime:
    """An RFC 3339 time, in UTC; exact to the microsecond, which is what PostgreSQL keeps."""
    text = _string(value)
    if _TIME.fullmatch(text):
        try:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
        except (ValueError, OverflowError):  # no such day; before the year 1 or after 9999 in UTC
            raise UnreadableError(Reason.INVALID_TIME, f"{shown(text)} is on no day of the calendar") from None
    mistakes = (mistake for pattern, mistake in _MISTAKES_IN_TIMES if pattern.fullmatch(text))
    mistake = next(mistakes, "it has to look like 2026-04-18T10:00:00Z or 2026-04-18T12:00:00.5+02:00")
    raise UnreadableError(Reason.INVALID_TIME, f"{shown(text)} is not an RFC 3339 time: {mistake}")


def _read_timestamp(value: object) -> str:
    text = read_time(value).isoformat(sep=" ").removesuffix("+00:00")
    return (text.rstrip("0") if "." in text else text) + "+00"


def _read_date(value: object) -> str:
    text = _string(value)
    try:
        if _DATE.fullmatch(text):
            return date.fromisoformat(text).isoformat()
    except ValueError:  # such as 30 February, or the year 0
        pass
    raise UnreadableError(Reason.INVALID_DATE, f"{shown(text)} is not a date like 2026-04-18")


def _read_boolean(value: object) -> str:
    if type(value) is not bool:
        raise UnreadableError(Reason.WRONG_TYPE, f"{described(value)} where true or false is expected")
    return "t" if value else "f"


def _string(value: object) -> str:
    if type(value) is str:
        return value
    raise UnreadableError(Reason.WRONG_TYPE, f"{described(value)} where a string is expected")


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_OTHER_READERS: Final[dict[str, Reader]] = {
    "uuid": read_uuid,
    "date": _read_date,
    "boolean": _read_boolean,
    "timestamptz": _read_timestamp,
}
