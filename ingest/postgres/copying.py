"""A plan's movements as PostgreSQL's COPY text."""

from collections.abc import Iterable, Mapping

from ingest.domain.lines import escaped
from ingest.domain.messages import Event
from ingest.domain.positions import PartitionKey


def copy_text(events: Iterable[Event], position_ids: Mapping[PartitionKey, int], batch_id: int) -> str:
    """The lines of `copy_movements`, sorted by cell so that neighbours land on the same index pages.

    A line begins with the values of its cell, so sorting lines sorts cells.
    """
    lines: list[str] = []
    for event in events:
        message = event.message
        position_id = position_ids[message.topic, message.partition]
        ending = f"\t{escaped(event.recorder)}\t{position_id}\t{message.offset}\t{batch_id}\n"
        lines += [line + ending for line in event.movements.lines]
    lines.sort()
    return "".join(lines)
