"""The named SQL statements of `sql/statements`: loaded once, composed with quoted identifiers, never built from text.

A file holds statements that begin with `-- name: NAME` and a line that describes them. `{schema}` and the like are
identifiers, `%(name)s` are parameters.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from psycopg import sql

from ingest import resources

_HEADER = re.compile(r"^-- name: (?P<name>[a-z_]+)\n-- (?P<description>[^\n]+)\n", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with its name and what it is for."""

    name: str
    description: str
    text: str


@cache
def statements() -> dict[str, Statement]:
    """All statements by name; two of one name are an error of the installation."""
    found: dict[str, Statement] = {}
    for file in resources.files_in(resources.sql() / "statements", ".sql"):
        for statement in parse(file.read_text(encoding="utf-8")):
            if statement.name in found:
                message = f"two SQL statements are named {statement.name}"
                raise ValueError(message)
            found[statement.name] = statement
    return found


def parse(text: str) -> Iterator[Statement]:
    """Split a file into its statements."""
    headers = list(_HEADER.finditer(text))
    ends = [header.start() for header in headers[1:]] + [len(text)]
    for header, end in zip(headers, ends, strict=True):
        body = text[header.end() : end].strip().removesuffix(";")
        yield Statement(header["name"], header["description"], body)


def compose(name: str, **parts: sql.Composable) -> sql.Composed:
    """Return a statement with its identifiers filled in."""
    # A file of the product, not text from outside: what varies comes in as Composable parts.
    return sql.SQL(statements()[name].text).format(**parts)
