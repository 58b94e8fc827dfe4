"""The circuit breaker: how many events of a partition were refused one after the other, and when that is enough.

A producer that is broken refuses to end: its events would fill the dead letters while nobody looks. After so many in a
row the partition stops behind the last one that was dealt with. The count is part of the position, so it survives
restarts and hand-overs, and one event that is not refused sets it back to zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from ingest.domain.batches import Batch, Decoded
from ingest.domain.messages import Refusal
from ingest.domain.positions import TopicPartition
from ingest.errors import PositionError

Reasons: TypeAlias = tuple[str, int] | None
"""The reason that most of some dead letters have, and how many have it; None when they were removed."""


@dataclass(frozen=True, slots=True)
class Streaks:
    """What a batch leaves behind: how many dead letters in a row each partition ends with.

    `cuts` holds partitions that reached the limit before their end in this batch, with the offset behind it: nothing
    from there on may be dealt with.
    """

    lengths: Mapping[TopicPartition, int]
    cuts: Mapping[TopicPartition, int] = field(default_factory=dict)

    def stopped(self, most: int) -> list[TopicPartition]:
        """Return the partitions that have reached the limit."""
        return sorted(where for where, length in self.lengths.items() if most and length >= most)


def follow_streaks(
    items: Sequence[Decoded], refusals: Iterable[Refusal], before: Mapping[TopicPartition, int], most: int
) -> Streaks:
    """Count on from what the positions had before; `refusals` are all of the batch, those of decoding too."""
    refused = {(r.message.topic, r.message.partition, r.message.offset) for r in refusals}
    if not refused and not (most and max(before.values(), default=0) >= most):
        return Streaks(dict.fromkeys(before, 0))
    lengths = dict(before)
    cuts: dict[TopicPartition, int] = {}
    for item in items:
        message = item.message
        where = TopicPartition(message.topic, message.partition)
        if where in cuts:
            continue
        if most and lengths[where] >= most:
            cuts[where] = message.offset
        elif (message.topic, message.partition, message.offset) in refused:
            lengths[where] += 1
        else:
            lengths[where] = 0
    return Streaks(lengths, cuts)


def cut_batch(batch: Batch, cuts: Mapping[TopicPartition, int]) -> Batch:
    """Return the batch without what lies at or behind these offsets."""
    kept = [item for item in batch.items if not _is_cut(item, cuts)]
    times = {TopicPartition(i.message.topic, i.message.partition): i.message.timestamp_ms for i in kept}
    spans = (
        replace(span, next_offset=cuts[where], last_timestamp_ms=times.get(where)) if where in cuts else span
        for span in batch.spans
        for where in (span.claim.topic_partition,)
    )
    # A partition that had reached its limit before this batch has nothing in it.
    filled = tuple(span for span in spans if span.claim.topic_partition in times)
    return replace(batch, items=tuple(kept), spans=filled)


def describe_streak(where: TopicPartition, next_offset: int, length: int, most: int, reasons: Reasons) -> PositionError:
    """Say what a person has to know about a partition that has reached the limit, with the commands to copy."""
    prevailing = ""
    look = "tallystream dead-letters list"
    if reasons:
        reason, count = reasons
        prevailing = f", {count} of them for {reason}"
        look = f"{look} --reason {reason}"
    message = (
        f"{where} is stopped before offset {next_offset}: the {length} events before it were refused{prevailing}"
        f" (max_dead_letters_in_a_row is {most}). They wait as dead letters, and nothing behind them was read: {look}."
        " When the producer is corrected, or to refuse as many again:"
        f" tallystream positions resume {where.topic} {where.partition} --reason '...'"
    )
    return PositionError(message)


def _is_cut(item: Decoded, cuts: Mapping[TopicPartition, int]) -> bool:
    cut = cuts.get(TopicPartition(item.message.topic, item.message.partition))
    return cut is not None and item.message.offset >= cut
