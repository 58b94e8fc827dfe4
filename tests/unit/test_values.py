"""Text, UUIDs, dates, times and booleans: equal values get equal text, and nothing is guessed."""

from datetime import UTC, datetime

import pytest

from ingest.domain.messages import Limits
from ingest.domain.registers import Dimension
from ingest.domain.strict_json import Number, UnreadableError
from ingest.domain.values import dimension_reader, read_time, recorder_reader, recorder_text_reader

UUID = "0b9f6c3e-7a51-4a0e-9d5b-1f2e3d4c5b6a"


def read(column_type: str, value: object, limits: Limits | None = None) -> str:
    """What the dimension would store, or the reason why nothing."""
    try:
        return dimension_reader(Dimension("d", column_type), limits or Limits())(value)
    except UnreadableError as error:
        return error.reason


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "A ",
        "__NULL__",
        "a|b;c,d\te\nf",
        "\\N",
        "\x1b[31m",
        "e\u0301",
        "\u00e9",
        "\U0001f600",
        "'; DROP TABLE x; --",
        "1",
        "1.0",
    ],
)
def test_text_is_taken_as_it_is(text: str) -> None:
    """Delimiters, blanks, cases and compositions all count: distinct texts stay distinct keys."""
    assert read("text", text) == text


@pytest.mark.parametrize("text", ["\0", "a\0b", "\ud800", "x\udfff", "é\udc00"])
def test_text_that_postgresql_cannot_store(text: str) -> None:
    """NUL and half of a surrogate pair are refused here, not by a whole COPY."""
    assert read("text", text) == "invalid_text"
    assert read("varchar(20)", text) == "invalid_text"


@pytest.mark.parametrize(
    ("column_type", "length", "expected"),
    [
        ("text", 1000, "ok"),
        ("text", 1001, "text_too_long"),
        ("varchar(5)", 5, "ok"),
        ("varchar(5)", 6, "text_too_long"),
    ],
)
def test_length_is_in_characters(column_type: str, length: int, expected: str) -> None:
    """As PostgreSQL counts it; blanks at the end are not cut off to make a text fit."""
    for character in ("a", " ", "\U0001f600"):
        text = character * length
        assert read(column_type, text) == (text if expected == "ok" else expected)


def test_limit_of_text_holds_for_long_varchars() -> None:
    """A register cannot declare itself out of the limit."""
    assert read("varchar(5000)", "a" * 11, Limits(max_text_length=10)) == "text_too_long"


@pytest.mark.parametrize(
    ("column_type", "value", "expected"),
    [
        ("boolean", True, "t"),
        ("boolean", False, "f"),
        ("boolean", "true", "wrong_type"),
        ("boolean", 1, "wrong_type"),
        ("uuid", UUID, UUID),
        ("uuid", UUID.upper(), UUID),
        ("uuid", UUID.replace("-", ""), "invalid_uuid"),
        ("uuid", f"{{{UUID}}}", "invalid_uuid"),
        ("uuid", UUID + "\n", "invalid_uuid"),
        ("uuid", 7, "wrong_type"),
        ("date", "2024-02-29", "2024-02-29"),
        ("date", "0001-01-01", "0001-01-01"),
        ("date", "2023-02-29", "invalid_date"),
        ("date", "0000-01-01", "invalid_date"),
        ("date", "20240229", "invalid_date"),
        ("date", "2024-W09-4", "invalid_date"),
        ("date", "2024-02-29T00:00:00Z", "invalid_date"),
        ("date", "infinity", "invalid_date"),
        ("date", 20240229, "wrong_type"),
        ("timestamptz", "2026-04-18T10:00:00Z", "2026-04-18 10:00:00+00"),
        ("timestamptz", "2026-04-18T12:00:00.000+02:00", "2026-04-18 10:00:00+00"),
        ("timestamptz", "2026-04-18T10:00:00.120000Z", "2026-04-18 10:00:00.12+00"),
        ("timestamptz", "now", "invalid_time"),
        ("numeric(10,4)", Number("1.50"), "1.5"),
        ("numeric(10,4)", "1.5", "1.5"),
        ("numeric(10,4)", 2, "2"),
        ("text", 5, "wrong_type"),
        ("text", Number("1.5"), "wrong_type"),
        ("text", True, "wrong_type"),
        ("text", ["a"], "wrong_type"),
        ("text", {"a": 1}, "wrong_type"),
    ],
)
def test_value(column_type: str, value: object, expected: str) -> None:
    """Each type takes its JSON type only, in its one form."""
    assert read(column_type, value) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-04-18T10:00:00Z", datetime(2026, 4, 18, 10, tzinfo=UTC)),
        ("2026-04-18t10:00:00z", datetime(2026, 4, 18, 10, tzinfo=UTC)),
        ("2026-04-18T10:00:00-00:00", datetime(2026, 4, 18, 10, tzinfo=UTC)),
        ("2026-04-18T10:00:00+05:45", datetime(2026, 4, 18, 4, 15, tzinfo=UTC)),
        ("2026-12-31T23:59:59.999999-23:59", datetime(2027, 1, 1, 23, 58, 59, 999999, tzinfo=UTC)),
        ("2026-04-18T10:00:00.5Z", datetime(2026, 4, 18, 10, 0, 0, 500000, tzinfo=UTC)),
        ("2026-04-18T10:00:00.123456Z", datetime(2026, 4, 18, 10, 0, 0, 123456, tzinfo=UTC)),
        ("2024-02-29T00:00:00Z", datetime(2024, 2, 29, tzinfo=UTC)),
    ],
)
def test_time(written: str, expected: datetime) -> None:
    """Whatever the offset, the time comes out in UTC and exact."""
    result = read_time(written)
    assert result == expected
    assert result.tzinfo is UTC


@pytest.mark.scenario("W9")
@pytest.mark.parametrize(
    ("written", "hint"),
    [
        ("2026-04-18T10:00:00", "offset is missing"),
        ("2026-04-18T10:00:00.5", "offset is missing"),
        ("2026-04-18 10:00:00Z", "a T goes between"),
        ("2026-04-18T24:00:00Z", "hour 24"),
        ("2016-12-31T23:59:60Z", "leap seconds"),
        ("2026-04-18T10:00:00.1234567Z", "more than 6 decimals"),
        ("2026-02-30T10:00:00Z", "no day of the calendar"),
        ("2026-13-01T10:00:00Z", "no day of the calendar"),
        ("0000-01-01T00:00:00Z", "no day of the calendar"),
        ("0001-01-01T00:00:00+01:00", "no day of the calendar"),
        ("9999-12-31T23:59:59-01:00", "no day of the calendar"),
        ("2026-04-18", "has to look like"),
        ("2026-04-18T10:00Z", "has to look like"),
        ("2026-04-18T1000Z", "has to look like"),
        ("2026-W16-6T10:00:00Z", "has to look like"),
        ("2026-04-18T10:00:00+0200", "has to look like"),
        ("2026-04-18T10:00:00+24:00", "has to look like"),
        ("2026-04-18T10:00:00+02:60", "has to look like"),
        ("2026-04-18T10:00:00.Z", "has to look like"),
        ("2026-04-18T10:00:00,5Z", "has to look like"),
        ("2026-04-18T10:00:00Z\n", "has to look like"),
        ("٢٠٢٦-04-18T10:00:00Z", "has to look like"),
        ("+12026-04-18T10:00:00Z", "has to look like"),
        ("infinity", "has to look like"),
        ("now", "has to look like"),
        ("", "has to look like"),
    ],
)
def test_no_time(written: str, hint: str) -> None:
    """Times that somebody would have to interpret are refused, with what to do about them."""
    with pytest.raises(UnreadableError, match=hint) as refusal:
        read_time(written)
    assert refusal.value.reason == "invalid_time"


@pytest.mark.parametrize("value", [1776506400, Number("1776506400.5"), None, True, []])
def test_times_are_strings(value: object) -> None:
    """Seconds since 1970, or milliseconds? Nobody guesses."""
    with pytest.raises(UnreadableError) as refusal:
        read_time(value)
    assert refusal.value.reason == "wrong_type"


@pytest.mark.parametrize(
    ("recorder_type", "value", "expected"),
    [
        ("text", "receipt:1", "receipt:1"),
        ("text", "", "empty_text"),
        ("text", "x" * 201, "text_too_long"),
        ("text", 1, "wrong_type"),
        ("int", 42, "42"),
        ("int", "42", "wrong_type"),
        ("int", 2**31, "out_of_range"),
        ("bigint", 2**31, "2147483648"),
        ("uuid", UUID.upper(), UUID),
        ("uuid", "receipt:1", "invalid_uuid"),
    ],
)
def test_recorder(recorder_type: str, value: object, expected: str) -> None:
    """The recorder has the type that its register declares."""
    try:
        result = recorder_reader(recorder_type, Limits())(value)
    except UnreadableError as error:
        result = error.reason
    assert result == expected


@pytest.mark.parametrize(
    ("recorder_type", "text", "expected"),
    [
        ("text", "receipt:1", "receipt:1"),
        ("int", "42", "42"),
        ("int", "-7", "-7"),
        ("int", "042", "wrong_type"),
        ("int", "4294967296", "out_of_range"),
        ("bigint", "9" * 5000, "wrong_type"),
        ("uuid", UUID.upper(), UUID),
    ],
)
def test_recorder_in_a_key(recorder_type: str, text: str, expected: str) -> None:
    """A record's key is text whatever the recorder's type."""
    try:
        result = recorder_text_reader(recorder_type, Limits())(text)
    except UnreadableError as error:
        result = error.reason
    assert result == expected
