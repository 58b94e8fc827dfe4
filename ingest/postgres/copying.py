"""A plan's movements as PostgreSQL's COPY text."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from ingest.domain.lines import escaped
from ingest.domain.messages import Event
from ingest.domain.positions import PartitionKey

_LINES_AT_ONCE: Final = 5_000


def copy_text(events: Iterable[Event], position_ids: Mapping[PartitionKey, int], batch_id: int) -> Iterator[str]:
    """The lines of `copy_movements`, sorted by cell so that neighbours land on the same index pages; some at a time.

    A line begins with the values of its cell, so sorting lines sorts cells.
    """
    texts: list[str] = []
    for event in events:
        message = event.message
        position_id = position_ids[message.topic, message.partition]
        ending = f"\t{escaped(event.recorder)}\t{position_id}\t{message.offset}\t{batch_id}\n"
        texts.append(event.movements.text.replace("\n", ending))
        texts.append(ending)
    lines = "".join(texts).split("\n")
    lines.pop()
    lines.sort()
    del texts
    for first in range(0, len(lines), _LINES_AT_ONCE):
        yield "\n".join([*lines[first : first + _LINES_AT_ONCE], ""])
