"""Strict JSON: what other parsers forgive or lose is refused, and whoever reads the refusal finds the place."""

import pytest

from ingest.domain.strict_json import Number, UnreadableError, check_depth, path_to, read_object, shown


def refusal(value: bytes) -> UnreadableError:
    """What the reader says about a value that it does not take."""
    with pytest.raises(UnreadableError) as caught:
        read_object(value, max_depth=32)
    return caught.value


def test_numbers_keep_what_they_say() -> None:
    """Short integers are integers; everything else keeps its spelling, so that nothing is rounded."""
    document = read_object(b'{"a": 1, "b": 0.1, "c": 1e5, "d": -0, "e": NaN, "f": %s}' % (b"9" * 41), max_depth=32)
    assert document == {
        "a": 1,
        "b": Number("0.1"),
        "c": Number("1e5"),
        "d": 0,
        "e": Number("NaN"),
        "f": Number("9" * 41),
    }


@pytest.mark.parametrize(
    ("value", "path", "detail"),
    [
        (b'{"a": 1, "a": 1}', "a", '"a" occurs twice'),
        (b'{"a": 1, "\\u0061": 2}', "a", '"a" occurs twice'),
        (b'{"m": [{"q": 1}, {"q": 1, "r": 1, "q": 2}]}', "m[1].q", '"q" occurs twice'),
        (b'{"m": [[[{"x": {"y y": 1, "y y": 1}}]]]}', 'm[0][0][0].x["y y"]', '"y y" occurs twice'),
        (b'{"": 1, "": 2}', '[""]', '"" occurs twice'),
        (b'{"\\u0000": 1, "\\u0000": 2}', '["\\u0000"]', '"\\u0000" occurs twice'),
        (b'[{"a": 1, "a": 1}]', "[0].a", '"a" occurs twice'),
        (b'{"x": {"a": 1, "a": 1}, "broken', "", "an object has the same key twice"),
    ],
)
def test_duplicate_keys(value: bytes, path: str, detail: str) -> None:
    """A key that occurs twice is refused at any depth, and named with its place."""
    error = refusal(value)
    assert (error.reason, error.path, error.detail) == ("duplicate_key", path, detail)


@pytest.mark.parametrize(
    ("value", "reason", "detail"),
    [
        (b"\xff", "not_utf8", "byte 0 does"),
        (b'{"a": "\xc3"}', "not_utf8", "byte 7 does"),
        (b'{"a": "\xed\xa0\x80"}', "not_utf8", "byte 7 does"),
        ('{"a": 1}'.encode("utf-16"), "not_utf8", "byte 0 does"),
        (b"\xef\xbb\xbf{}", "not_json", "byte order mark"),
        (b" ", "not_json", "expecting value at character 1"),
        (b"{", "not_json", "at character 1"),
        (b"{} {}", "not_json", "extra data at character 3"),
        (b'{"a', "not_json", "unterminated string starting at character 1"),
        (b"{'a': 1}", "not_json", "at character 1"),
        (b'{"a": 1,}', "not_json", "at character"),
        (b'{"a": 01}', "not_json", "at character"),
        (b'{"a": .5}', "not_json", "at character"),
        (b'{"a": "\x00"}', "not_json", "control character"),
        (b'{"a": "\n"}', "not_json", "control character"),
        (b'{"a": nan}', "not_json", "at character"),
        (b"nul", "not_json", "at character"),
        (b"null", "not_an_object", "null, not an object"),
        (b"[]", "not_an_object", "an array, not an object"),
        (b"7", "not_an_object", "an integer, not an object"),
        (b"7.5", "not_an_object", "a number, not an object"),
        (b'"{}"', "not_an_object", "a string, not an object"),
        (b"true", "not_an_object", "a boolean, not an object"),
        (b"[" * 100_000, "too_deep", "deeper than 32"),
        (b"[" * 100_000 + b"]" * 100_000, "too_deep", "deeper than 32"),
        (b'{"a":' * 100_000, "too_deep", "deeper than 32"),
    ],
)
def test_no_json_object(value: bytes, reason: str, detail: str) -> None:
    """Each way not to be a JSON object has its reason."""
    error = refusal(value)
    assert error.reason == reason
    assert detail in error.detail


@pytest.mark.parametrize("depth", [1, 2, 32, 33, 900])
def test_depth(depth: int) -> None:
    """So many arrays and objects inside one another are allowed, the document itself included, and no more."""
    document: object = 1
    for level in range(depth):
        document = [document] if level % 2 else {"a": 0, "b": document}
    check_depth(document, depth)
    with pytest.raises(UnreadableError, match=f"deeper than {depth - 1}"):
        check_depth(document, depth - 1)


@pytest.mark.parametrize(
    ("parent", "key", "expected"),
    [
        ("", "period", "period"),
        ("movements[3]", "quantity", "movements[3].quantity"),
        ("movements[3]", "naïve key", 'movements[3]["na\\u00efve key"]'),
        ("", "\ud800", '["\\ud800"]'),
        ("", "a" * 64, f'["{"a" * 60}"… (64 characters)]'),
    ],
)
def test_path(parent: str, key: str, expected: str) -> None:
    """Paths are short and printable, whatever a key contains."""
    assert path_to(parent, key) == expected


def test_shown_text_is_printable() -> None:
    """No control character, no escape sequence and no megabytes get into a message."""
    assert shown("\x1b[31m\n\0\ud800é") == '"\\u001b[31m\\n\\u0000\\ud800\\u00e9"'
    assert len(shown("x" * 10_000_000)) < 100
