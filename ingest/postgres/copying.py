"""A plan's movements and new recorders as PostgreSQL's COPY text."""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Final

from ingest.domain.lines import NULL, escaped
from ingest.domain.messages import Event
from ingest.domain.plans import RecorderChange
from ingest.domain.positions import PartitionKey

# PostgreSQL is at work on one block while the next is made, and only one is in memory.
_MOVEMENTS_OF_A_BLOCK: Final = 20_000


def copy_text(events: Iterable[Event], position_ids: Mapping[PartitionKey, int], batch_id: int) -> Iterator[str]:
    """The lines of `copy_movements`, in blocks; each is sorted by cell so that neighbours land on the same index pages.

    A line begins with the values of its cell, so sorting lines sorts cells.
    """
    texts: list[str] = []
    count = 0
    for event in events:
        message = event.message
        position_id = position_ids[message.topic, message.partition]
        ending = f"\t{escaped(event.recorder)}\t{position_id}\t{message.offset}\t{batch_id}\n"
        texts += event.movements.text.replace("\n", ending), ending
        count += event.movements.count
        if count >= _MOVEMENTS_OF_A_BLOCK:
            yield _sorted("".join(texts))
            texts, count = [], 0
    if texts:
        yield _sorted("".join(texts))


def recorders_text(changes: Iterable[RecorderChange], position_ids: Mapping[PartitionKey, int], batch_id: int) -> str:
    """The lines of `copy_recorders`, in the order of the changes."""
    lines: list[str] = []
    for change in changes:
        state, message = change.after, change.last_event.message
        first = _written(state.first_period)
        # Most documents have one period.
        last = first if state.last_period is state.first_period else _written(state.last_period)
        revision = NULL if state.revision is None else state.revision
        lines.append(
            f"{escaped(change.recorder)}\t{revision}\t\\\\x{state.digests.hex()}\t{state.spilled:d}\t{first}\t{last}"
            f"\t{position_ids[message.topic, message.partition]}\t{message.offset}\t{batch_id}\n"
        )
    return "".join(lines)


def _sorted(text: str) -> str:
    lines = text.split("\n")
    lines.pop()
    lines.sort()
    lines.append("")
    return "\n".join(lines)


def _written(period: datetime | None) -> str:
    return NULL if period is None else period.isoformat()
