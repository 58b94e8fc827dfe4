"""Movements as PostgreSQL's COPY text, one line each."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from ingest.domain.plans import Row
from ingest.domain.positions import TopicPartition

_SPECIAL: Final = re.compile(r"[\\\t\n\r]")
_ESCAPES: Final = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


def copy_lines(rows: Sequence[Row], position_ids: Mapping[TopicPartition, int], batch_id: int) -> Iterable[str]:
    """Yield the lines of `copy_movements`, sorted by cell so that neighbours land on the same index pages."""
    for row in sorted(rows, key=_cell):
        message = row.event.message
        position_id = position_ids[TopicPartition(message.topic, message.partition)]
        values = "\t".join(map(_field, row.movement.values))
        yield (
            f"{_field(row.event.recorder)}\t{row.movement.period.isoformat()}\t{position_id}\t{message.offset}\t"
            f"{batch_id}\t{values}\n"
        )


def _cell(row: Row) -> list[str]:
    return [value or "" for value in row.movement.values]


def _field(value: str | None) -> str:
    if value is None:
        return r"\N"
    return _SPECIAL.sub(lambda match: _ESCAPES[match[0]], value) if _SPECIAL.search(value) else value
