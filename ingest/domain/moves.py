"""Moving a position by hand: what it would do, in words, before anybody does it.

Moving back is harmless: what was applied is recognised. Moving forward skips events, and a position outside the log, or
in another topic than before, is taken only when that is said explicitly.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from ingest.domain.positions import LogBounds, TopicPartition, check_position
from ingest.domain.status import StoredPosition
from ingest.errors import PositionError


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for: `to` is an offset, `start` or `end` of the log."""

    topic_partition: TopicPartition
    to: str
    accept_new_topic: bool = False
    force: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """A move that can be made; `warnings` say what is unusual about it."""

    wish: Wish
    from_offset: int | None
    to_offset: int
    bounds: LogBounds | None
    is_other_topic: bool
    warnings: tuple[str, ...]

    @property
    def is_truncated(self) -> bool:
        """Whether the log ended before the position; the position was read first, so it cannot have overtaken it."""
        return self.bounds is not None and self.from_offset is not None and self.from_offset > self.bounds.high


def plan_move(wish: Wish, stored: StoredPosition | None, bounds: LogBounds | None) -> Move:
    """Return what the wish comes to, given the position (None: never read) and what the broker has of the log."""
    target = _target(wish, bounds)
    topic_id = stored.topic_id if stored else None
    is_other = bounds is not None and topic_id is not None and bounds.topic_id not in {None, topic_id}
    if stored is not None and bounds is not None and is_other and not wish.accept_new_topic:
        check_position(stored.next_offset, topic_id, bounds)
    warnings = tuple(_objections(wish, target, bounds))
    if warnings and not wish.force:
        raise PositionError("; ".join(warnings) + ". Nothing was moved; --force moves it all the same")
    return Move(wish, stored.next_offset if stored else None, target, bounds, is_other, warnings)


def describe_move(move: Move, group: str) -> list[str]:
    """Say what is about to happen, one sentence a line."""
    before, after = move.from_offset, move.to_offset
    where = move.wish.topic_partition
    lines = [f"{where} of group {group}: {'never read' if before is None else before} -> {after}"]
    start = move.bounds.low if move.bounds else after
    if move.is_other_topic:
        lines.append("the topic was created anew: its offsets are counted in a row of their own from now on")
        before = start
    if before is not None and after < before:
        lines.append(
            f"offsets {after}..{before - 1} are read again; what was applied is recognised and changes nothing"
        )
    if after > (start if before is None else before):
        first = start if before is None else before
        lines.append(
            f"offsets {first}..{after - 1} are skipped: what is in them is never applied, and that is recorded"
        )
    return [*lines, *(f"warning: {warning}" for warning in move.warnings)]


def _target(wish: Wish, bounds: LogBounds | None) -> int:
    if wish.to.isascii() and wish.to.isdecimal():
        target = int(wish.to)
        if target < 2**63:
            return target
    if wish.to not in {"start", "end"}:
        raise PositionError(f"--to {wish.to}: give an offset, start or end")
    if bounds is None:
        raise PositionError(
            f"the broker does not tell where the log of {wish.topic_partition} begins and ends: check topic, partition"
            " and brokers, or give an offset with --force"
        )
    return bounds.low if wish.to == "start" else bounds.high


def _objections(wish: Wish, target: int, bounds: LogBounds | None) -> Iterator[str]:
    if bounds is None:
        yield f"the broker tells nothing about {wish.topic_partition}, so nobody knows whether offset {target} exists"
    elif not bounds.low <= target <= bounds.high:
        yield (
            f"offset {target} is outside the log of {wish.topic_partition}, which has {bounds.low} to {bounds.high}:"
            " a worker would stop there"
        )
