"""Movements as lines of COPY text: nothing in a value can look like the end of one."""

from datetime import UTC, datetime

from ingest.domain.lines import as_line, from_line

PERIOD = datetime(2026, 4, 18, 10, tzinfo=UTC)
VALUES = ("a\tb", "c\\", "d\ne", "\r", "\\N", "", None, "plain")


def test_a_line_has_one_field_for_each_value() -> None:
    """Tabs, ends of lines and backslashes in values are escaped, and mean what they were."""
    line = as_line(VALUES, PERIOD)
    assert line.count("\t") == len(VALUES)
    assert "\n" not in line
    assert "\r" not in line
    assert from_line(line) == (VALUES, PERIOD)
