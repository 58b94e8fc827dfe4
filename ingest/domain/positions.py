"""Where a partition is read from: the types both borders share, and the check of what they say.

The position stored in PostgreSQL is the truth; the broker's log has to agree with it. When it
does not, events were lost or the topic is another one, and no automatic choice would be right:
`check_position` then raises, and its message says exactly what is missing, and with which command
a person decides.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from ingest.errors import PositionError

PartitionKey: TypeAlias = tuple[str, int]
"""A `TopicPartition`, or a plain tuple that equals it: for what is looked up once per message."""


class TopicPartition(NamedTuple):
    """One partition of one topic; sorts by topic, then number, so that locks have one order."""

    topic: str
    partition: int

    def __str__(self) -> str:
        """Name it as every message and log line does."""
        return f"topic {self.topic} partition {self.partition}"


@dataclass(frozen=True, slots=True)
class LogBounds:
    """What the broker has of a partition: the offsets `low` to `high - 1`.

    `topic_id` tells a topic from another one created later under the same name, `partitions` is how many the topic has.
    They are `None` and 0 where the broker cannot tell.
    """

    topic_partition: TopicPartition
    topic_id: str | None
    low: int
    high: int
    partitions: int = 0


@dataclass(frozen=True, slots=True)
class Claim:
    """A partition this process owns in PostgreSQL: where to read on, and the epoch that fences.

    `attempts` is how often it was claimed until batches proved that they can be applied: one too many halves them.
    """

    topic_partition: TopicPartition
    position_id: int
    next_offset: int
    epoch: int
    attempts: int = 0


def check_position(next_offset: int | None, topic_id: str | None, bounds: LogBounds) -> int:
    """Return the offset to read from, given the stored position (`None` for a new partition).

    A partition that was never read begins at the log's start. A topic id that either side does
    not know proves nothing and is accepted.
    """
    if next_offset is None:
        return bounds.low
    _check_topic(topic_id, next_offset, bounds)
    _check_range(next_offset, bounds)
    return next_offset


def _check_topic(topic_id: str | None, next_offset: int, bounds: LogBounds) -> None:
    if topic_id is None or bounds.topic_id is None or topic_id == bounds.topic_id:
        return
    message = (
        f"{bounds.topic_partition} is not the one that was read before: its topic id was"
        f" {topic_id} and is {bounds.topic_id} now, so the topic was deleted and created again;"
        f" the stored position {next_offset} belongs to the old one and says nothing about the"
        f" offsets {_span(bounds.low, bounds.high)} of the new one. Nothing of it was read."
        " To read the new topic from its start:"
        f" {_command(bounds, 'start')} --accept-new-topic; batches and dead letters of the old topic stay"
    )
    raise PositionError(message)


def _check_range(next_offset: int, bounds: LogBounds) -> None:
    if next_offset < bounds.low:
        message = (
            f"offsets {_span(next_offset, bounds.low)} of {bounds.topic_partition} are gone:"
            f" the stored position is {next_offset}, but the log begins at {bounds.low} now"
            " (retention, or deleted records). Produce the missing events again if they matter;"
            f" to go on without those offsets: {_command(bounds, 'start')}"
        )
        raise PositionError(message)
    if next_offset > bounds.high:
        message = (
            f"{bounds.topic_partition} ends at offset {bounds.high}, but the stored position is"
            f" {next_offset}: the offsets {_span(bounds.high, next_offset)} were applied and are"
            " not in the log any more (a truncated log, or another cluster). New events would"
            " reuse those offsets. Check that this is the right cluster; to read on from"
            f" the log's end: {_command(bounds, 'end')}"
        )
        raise PositionError(message)


def _command(bounds: LogBounds, to: str) -> str:
    """Write the command that a person can copy."""
    where = bounds.topic_partition
    return f"tallystream positions set {where.topic} {where.partition} --to {to} --reason '...'"


def _span(first: int, end: int) -> str:
    """Name the offsets from `first` to the one before `end`."""
    return f"{first}..{end - 1}" if end > first else "(none)"
