"""`tallystream produce`, the part that reads lines: what is sent with which key, and what is refused and why."""

import io

import pytest

from ingest.cli.produce import _lines, _recorder

LIMIT = 100

KEYS = [
    (b'{"recorder": "receipt:1"}', b"receipt:1"),
    (b'{"recorder": 17}', b"17"),
    (b'{"recorder": "\xc3\xa9"}', "é".encode()),
    (b'{"recorder": "\\u00e9", "other": [1, 2]}', "é".encode()),
]

REFUSED = [
    (b"recorder", "not JSON: "),
    (b'{"recorder": "a"', "not JSON: "),
    (b'{"recorder": "\xff"}', "not JSON: "),
    (b'["recorder"]', "not a JSON object"),
    (b"{}", "has no recorder (a text or an integer)"),
    (b'{"recorder": ""}', "has no recorder (a text or an integer)"),
    (b'{"recorder": null}', "has no recorder (a text or an integer)"),
    (b'{"recorder": true}', "has no recorder (a text or an integer)"),
    (b'{"recorder": 1.5}', "has no recorder (a text or an integer)"),
    (b'{"recorder": "\\ud800"}', "has a recorder that is not valid Unicode"),
    (b'{"recorder": "' + b"a" * LIMIT + b'"}', "longer than 100 bytes, which is the setting max_event_bytes"),
]

FILES = [
    (b"", []),
    (b"a\nb\n", [(1, b"a"), (2, b"b")]),
    (b"a\nb", [(1, b"a"), (2, b"b")]),
    (b"a\r\n\r\n  \n b \r\n", [(1, b"a"), (4, b"b")]),
    (b"\xef\xbb\xbfa\n\xef\xbb\xbfb\n", [(1, b"a"), (2, b"\xef\xbb\xbfb")]),
    (b"x" * LIMIT + b"\nb\n", [(1, b"x" * LIMIT), (2, b"b")]),
]


@pytest.mark.parametrize(("line", "key"), KEYS)
def test_the_key_is_the_recorder(line: bytes, key: bytes) -> None:
    """As text, so that all of a recorder's events are in one partition."""
    assert _recorder(line, LIMIT) == key


@pytest.mark.parametrize(("line", "problem"), REFUSED)
def test_a_line_that_is_no_event_is_refused(line: bytes, problem: str) -> None:
    """Only what decides about the key is looked at; the worker looks at the rest."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 - the text is compared below
        _recorder(line, LIMIT)
    assert str(refused.value).startswith(problem)


@pytest.mark.parametrize(("content", "lines"), FILES)
def test_lines_have_their_numbers(content: bytes, lines: list[tuple[int, bytes]]) -> None:
    """Blank lines are skipped but counted; a byte order mark at the start is no part of the first event."""
    assert list(_lines(io.BytesIO(content), LIMIT)) == lines


def test_a_line_without_end_takes_no_memory() -> None:
    """Of a line that is too long only as much is kept as shows that it is; the next one is read as usual."""
    lines = list(_lines(io.BytesIO(b"x" * 10_000_000 + b"\nb\n"), LIMIT))
    assert [number for number, _ in lines] == [1, 2]
    assert LIMIT < len(lines[0][1]) <= LIMIT + 2
    assert lines[1] == (2, b"b")
