"""The rules of the house that no linter knows: sizes, docstrings of modules, and what belongs into which folder."""

import ast
import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ingest.postgres.statements import statements
from tests.support.versions import KAFKA

ROOT = Path(__file__).resolve().parents[2]
FUNCTION_MAX_LINES = 70
MODULE_MAX_LINES = {"ingest": 400, "tests": 600}
SQL_MAX_LINES = 400

MODULES = sorted(itertools.chain.from_iterable((ROOT / folder).rglob("*.py") for folder in MODULE_MAX_LINES))
SQL_FILES = sorted(itertools.chain((ROOT / "sql").rglob("*.sql"), (ROOT / "schema" / "migrations").rglob("*.sql")))


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=_name)
def test_modules_and_functions_are_short(path: Path) -> None:
    """A module fits into one's head, a function on one screen, and a module says first what it is for."""
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text)
    assert len(text.splitlines()) <= MODULE_MAX_LINES[path.relative_to(ROOT).parts[0]]
    assert ast.get_docstring(tree), "a module opens with what it is for"
    too_long = [
        f"{node.name} in line {node.lineno}: {length} lines"
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > FUNCTION_MAX_LINES
    ]
    assert too_long == []


@pytest.mark.parametrize("path", SQL_FILES, ids=_name)
def test_sql_files_are_short(path: Path) -> None:
    """What holds for modules holds for SQL."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= SQL_MAX_LINES


def test_sql_and_schema_contain_no_python() -> None:
    """Verbs and nouns; the program is elsewhere."""
    assert [_name(path) for folder in ("sql", "schema") for path in (ROOT / folder).rglob("*.py")] == []


def test_named_statements_are_used() -> None:
    """A statement that nobody asks for is dead; loading them refuses two of one name."""
    used = {text for path in (ROOT / "ingest").rglob("*.py") for text in _texts(path)}
    assert sorted(set(statements()) - used) == []


def test_named_statements_are_described() -> None:
    """Each says in one line what it is for, and no two say the same."""
    descriptions = Counter(statement.description for statement in statements().values())
    assert [text for text, count in descriptions.items() if count > 1 or len(text) < len("Ends it.")] == []


def test_no_sql_text_in_python() -> None:
    """Statements are in sql/, where they have a name and are linted."""
    begins = re.compile(r"\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH|CREATE|ALTER|DROP|COPY)\s", re.ASCII)
    found = [
        f"{_name(path)}: {text[:60]}"
        for path in (ROOT / "ingest").rglob("*.py")
        for text in _texts(path)
        if begins.match(text)
    ]
    assert found == []


def test_kafka_is_pinned_to_one_version() -> None:
    """The jars and the container image are the same Kafka."""
    project = ET.parse(ROOT / "tests" / "support" / "kafka_jars" / "pom.xml")  # noqa: S314 - our own file
    versions = {element.text for element in project.iterfind(".//{*}dependency[{*}artifactId='kafka_2.13']/{*}version")}
    assert versions == {KAFKA}


def _texts(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
