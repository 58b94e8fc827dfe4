"""A movement as one line of PostgreSQL's COPY text: its values, then its period, with tabs between them.

The line is made when an event is decoded, and is all that the program carries of a movement from there on: digests are
taken of it, cells are sorted by it, and COPY gets it as it is. Different movements have different lines.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Final

NULL: Final = r"\N"

_SPECIAL: Final = re.compile(r"[\\\t\n\r]")
_ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}
_ESCAPED: Final = re.compile(r"\\([\\tnr])")
_MEANT: Final = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


def as_line(values: Sequence[str | None], period: datetime) -> str:
    """The line of a movement, without the end of the line."""
    return "\t".join([*[NULL if value is None else escaped(value) for value in values], period.isoformat()])


def from_line(line: str) -> tuple[tuple[str | None, ...], datetime]:
    """What `as_line` was given."""
    *values, period = line.split("\t")
    return tuple(None if value == NULL else _meant(value) for value in values), datetime.fromisoformat(period)


def escaped(text: str) -> str:
    """The text as a field of a line."""
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], text) if _SPECIAL.search(text) else text


def _meant(field: str) -> str:
    return _ESCAPED.sub(lambda match: _MEANT[match[1]], field) if "\\" in field else field
