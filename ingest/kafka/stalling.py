"""Notices a producer's transaction that never ends: the log grows behind it, and committed readers may not follow.

Nothing can be done about it here, and reading costs nothing meanwhile; it is said, because a lag that nobody explains
is looked for in the wrong place.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from ingest.domain.positions import TopicPartition
from ingest.kafka.statistics import Fetched

_AFTER_S = 60.0
_SAME_AGAIN_S = 300.0

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Held:
    """Where the stable part of a log ends, since when, and when that was said."""

    stable: int
    since: float
    said_at: float = float("-inf")


@dataclass(slots=True)
class Stalls:
    """Follows the ends of the stable parts of logs."""

    clock: Callable[[], float]
    _seen: Mapping[TopicPartition, Fetched] = field(default_factory=dict)
    _held: dict[TopicPartition, _Held] = field(default_factory=dict)

    def note(self, fetched: Mapping[TopicPartition, Fetched]) -> None:
        """Look at what was fetched; called with every poll, and the same text is read once."""
        if fetched is self._seen and not self._held:
            return
        self._seen = fetched
        now = self.clock()
        for gone in self._held.keys() - fetched.keys():
            del self._held[gone]
        for where, one in fetched.items():
            self._look(where, one, now)

    def _look(self, where: TopicPartition, one: Fetched, now: float) -> None:
        if one.stable < 0 or one.stable >= one.high or one.next_offset < one.stable:
            self._held.pop(where, None)
            return
        held = self._held.get(where)
        if held is None or held.stable != one.stable:
            self._held[where] = _Held(one.stable, now)
        elif now - held.since >= _AFTER_S and now - held.said_at >= _SAME_AGAIN_S:
            held.said_at = now
            log.warning(
                "lso_stalled: a producer's transaction does not end, and what is behind it cannot be read;"
                " kafka-transactions.sh find-hanging names it",
                topic=where.topic,
                partition=where.partition,
                stable_offset=one.stable,
                records_behind=one.high - one.stable,
            )
