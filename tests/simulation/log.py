"""The topic as it is on the brokers: records with gaps between their offsets, and what can befall a log.

A partition's *lineages* are all the contents that its log has ever had: truncation and recreation begin another one.
What a worker commits has to be exactly a stretch of one of them.
"""

import bisect
from dataclasses import dataclass, field
from random import Random

from ingest.domain.messages import Message
from ingest.domain.positions import LogBounds, TopicPartition


@dataclass(frozen=True, slots=True)
class Record:
    """One event: `serial` is its own for ever; a duplicate is another record with the same id."""

    serial: int
    offset: int
    register: str
    recorder: str
    event_id: str

    def message(self, where: TopicPartition) -> Message:
        """The record as the source hands it out."""
        value = f"{self.serial} {self.register} {self.recorder} {self.event_id}".encode()
        return Message(where.topic, where.partition, self.offset, 1, self.recorder.encode(), value)


@dataclass(slots=True)
class Lineage:
    """One content of a log, retention aside: it only grows."""

    records: list[Record] = field(default_factory=list)

    def between(self, first: int, end: int) -> list[Record]:
        """The records with offsets from `first` to before `end`."""
        key = _offset
        return self.records[
            bisect.bisect_left(self.records, first, key=key) : bisect.bisect_left(self.records, end, key=key)
        ]


class PartitionLog:
    """One partition's log."""

    def __init__(self, where: TopicPartition, rng: Random) -> None:
        self.where = where
        self.topic_id = "topic-0"
        self.low = 0
        self.high = 0
        self.lineages = [Lineage()]
        self.lost: set[int] = set()
        self._rng = rng

    @property
    def records(self) -> list[Record]:
        """What is in the log now, what retention removed included."""
        return self.lineages[-1].records

    @property
    def bounds(self) -> LogBounds:
        """What the broker tells."""
        return LogBounds(self.where, self.topic_id, self.low, self.high)

    def append(self, serial: int, register: str, recorder: str, event_id: str) -> None:
        """One more record; transaction markers and compaction leave gaps before some of them."""
        offset = self.high + (self._rng.choice((1, 1, 2, 5)) if self._rng.random() < 0.2 else 0)
        self.records.append(Record(serial, offset, register, recorder, event_id))
        self.high = offset + 1

    def read(self, first: int, most: int) -> list[Record]:
        """At most so many records, from an offset on."""
        start = bisect.bisect_left(self.records, first, key=_offset)
        return self.records[start : start + most]

    def retain(self, low: int) -> None:
        """Retention: what lies before is gone."""
        self.lost |= {record.serial for record in self.lineages[-1].between(self.low, low)}
        self.low = max(self.low, low)

    def truncate(self, high: int) -> None:
        """An unclean election: the log ends earlier than it did."""
        kept = self.lineages[-1].between(0, high)
        self.lost |= {record.serial for record in self.records[len(kept) :]}
        self.lineages.append(Lineage(kept))
        self.high = max(high, self.low)

    def recreate(self, topic_id: str) -> None:
        """The topic was deleted and created again: other records at the same offsets."""
        self.lost |= {record.serial for record in self.records}
        self.lineages.append(Lineage())
        self.topic_id, self.low, self.high = topic_id, 0, 0


def _offset(record: Record) -> int:
    return record.offset
