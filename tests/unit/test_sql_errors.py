"""Errors of the SQL functions: each has a code of ours, a message with its ids, a hint, and a line in the reference."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.downloads import ROOT
from tests.support.generate import reference, sql_errors

SQL_FILES = sorted((ROOT / "sql").rglob("*.sql"))
ERRORS_FILE = ROOT / "sql" / "internal" / "errors.sql"
CALL = re.compile(r"\b_fail\(\s*(?!\))")
RAISE = re.compile(r"^\s*RAISE\b[^;]*;", re.MULTILINE)
CODE = re.compile(r"'(TS\d{3})'")


def test_errors_are_listed_once_and_all_are_raised() -> None:
    """Nothing is raised that the reference does not explain, and nothing is explained that is never raised."""
    listed = [code for code, _ in sql_errors()]
    raised = {code for path in SQL_FILES for code in CODE.findall(_raising(path))}
    assert sorted(raised) == listed
    assert all(meaning.endswith(".") for _, meaning in sql_errors())


def test_the_reference_is_current() -> None:
    """`make generate` writes it anew."""
    written = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    assert written == reference()
    assert re.findall(r"^\| `(TS\d{3})` \|", written, re.MULTILINE) == [code for code, _ in sql_errors()]


@pytest.mark.parametrize("path", SQL_FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_failure_has_code_message_and_hint(path: Path) -> None:
    """The message is made of what it is about; the hint is never left out."""
    for number, (code, message, hint, *_) in _failures(path):
        assert CODE.fullmatch(code), f"line {number}"
        assert "format(" in message or message == "problem", f"line {number}: {message}"
        assert len(hint) > len("'Do it.'"), f"line {number}"


def test_nothing_else_raises() -> None:
    """RAISE is for `_fail`, for the guard that may not call it, to undo on purpose, and for what is none of ours."""
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in SQL_FILES}
    found = {name: [" ".join(raised.split()) for raised in RAISE.findall(text)] for name, text in texts.items()}
    assert {name: len(raised) for name, raised in found.items() if raised} == {
        "sql/internal/errors.sql": 2,
        "sql/internal/guards.sql": 1,
        "sql/internal/partitions.sql": 1,
        "sql/register/posting.sql": 2,
    }
    assert "ERRCODE = 'TS020', MESSAGE = format(" in found["sql/internal/guards.sql"][0]
    assert found["sql/internal/partitions.sql"] == ["RAISE SQLSTATE 'UNDO0';"]
    assert set(found["sql/register/posting.sql"]) == {"RAISE;"}


def test_every_error_is_tested() -> None:
    """Some test of the database provokes it, but for what cannot happen to a sound installation."""
    tests = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "database").glob("*.py"))
    assert [code for code, _ in sql_errors() if code not in tests] == ["TS090"]


def _raising(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    return text.partition("$$;")[2] if path == ERRORS_FILE else text


def _failures(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The line and the arguments of each call of `_fail`."""
    text = path.read_text(encoding="utf-8")
    for call in CALL.finditer(text):
        if not text[: call.start()].endswith(("FUNCTION ", "by ")):
            yield text[: call.start()].count("\n") + 1, _arguments(text[call.end() :])


def _arguments(text: str) -> list[str]:
    """What stands between the commas, up to the parenthesis that closes the call."""
    arguments = [""]
    depth, quoted = 1, False
    for character in text:
        quoted ^= character == "'"
        if not quoted:
            depth += {"(": 1, ")": -1}.get(character, 0)
            if depth == 0:
                break
        if character == "," and depth == 1 and not quoted:
            arguments.append("")
        else:
            arguments[-1] += character
    return [" ".join(argument.split()) for argument in arguments]
