"""Which partitions are read, and from where: the answers to librdkafka's rebalance callbacks.

The group gives; the worker's handlers claim in PostgreSQL; only what was claimed is read, from the
offset of the claim. What was not claimed waits, and is offered again from time to time: a person
may have corrected its position, or the broker may tell about it by then.

Two things about librdkafka shape this module:

- When a callback raises, the client assigns everything at offsets of its own choice and drops the
  messages of that call. So nothing is ever raised inside a callback: the failure is kept, nothing
  is assigned, and `poll` raises it afterwards, again and again until the group is joined anew.
- A partition can be revoked and assigned again within one call, and a message fetched before looks
  like one fetched after. `moved` names such partitions: that call's messages are not theirs, and
  they are read again from the claim.
"""

from collections.abc import Callable, Iterable, Sequence

import confluent_kafka as ck
import structlog

from ingest.domain.positions import Claim, LogBounds, TopicPartition
from ingest.kafka.bounds import ReadsBounds

OnAssigned = Callable[[Sequence[LogBounds]], Sequence[Claim]]
OnRevoked = Callable[[Sequence[TopicPartition], bool], None]

Key = tuple[str, int]

log = structlog.get_logger(__name__)


class Assignment:
    """The partitions that are read, kept in step with the group."""

    def __init__(self, bounds: ReadsBounds, on_assigned: OnAssigned, on_revoked: OnRevoked) -> None:
        self._bounds = bounds
        self._on_assigned = on_assigned
        self._on_revoked = on_revoked
        self._given: set[Key] = set()
        # By topic and number, not by TopicPartition: this is looked up once per message.
        self.next_offsets: dict[Key, int] = {}
        self.committed: dict[Key, int] = {}
        self.topic_ids: dict[Key, str | None] = {}
        self.moved: set[Key] = set()
        self.failure: Exception | None = None
        self.paused = False

    def assigned(self, consumer: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
        """Claim what the group gives, and read what was claimed."""
        given = [TopicPartition(p.topic, p.partition) for p in partitions]
        self._given |= {(tp.topic, tp.partition) for tp in given}
        log.info("partitions assigned", partitions=_names(given))
        self._read(consumer, self._claim(given))

    def revoked(self, consumer: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
        """Let the worker finish what it has of these partitions, then stop reading them."""
        self._leave(consumer, partitions, lost=False)

    def lost(self, consumer: ck.Consumer, partitions: list[ck.TopicPartition]) -> None:
        """Stop reading partitions that others may have by now."""
        self._leave(consumer, partitions, lost=True)

    def release(self, consumer: ck.Consumer, partition: TopicPartition) -> None:
        """Stop reading a partition whose next offset the log does not have; it waits from now on."""
        if (partition.topic, partition.partition) in self.next_offsets:
            self._leave(consumer, [ck.TopicPartition(partition.topic, partition.partition)], lost=False)
            self._given.add((partition.topic, partition.partition))

    def waiting(self) -> list[TopicPartition]:
        """Return the partitions that the group gave and nobody claimed."""
        return [TopicPartition(*key) for key in sorted(self._given - self.next_offsets.keys())]

    def offer_waiting(self, consumer: ck.Consumer) -> None:
        """Offer them once more."""
        self._read(consumer, self._claim(self.waiting()))

    def is_settled(self, partition: TopicPartition) -> bool:
        """Tell whether everything that was read of a partition was also committed."""
        key = partition.topic, partition.partition
        return self.committed.get(key, 0) >= self.next_offsets.get(key, 0)

    def restart(self, consumer: ck.Consumer, keys: set[Key]) -> None:
        """Read those that are claimed again from the next offset: messages of theirs were dropped."""
        starts = [
            ck.TopicPartition(topic, partition, self.next_offsets[topic, partition])
            for topic, partition in sorted(keys & self.next_offsets.keys())
        ]
        if not starts:
            return
        log.debug(
            "reading again", next_offsets={name: p.offset for name, p in zip(_names(starts), starts, strict=True)}
        )
        consumer.incremental_unassign(starts)
        consumer.incremental_assign(starts)
        if self.paused:
            consumer.pause(starts)

    def forget(self, consumer: ck.Consumer) -> None:
        """Drop every claim, without asking the worker: it has dropped its own side.

        What the group gave stays given until it is revoked: a client that leaves and joins during a rebalance may come
        out of it with what it had, and is told nothing. Such partitions are offered again.
        """
        if held := self.held():
            consumer.incremental_unassign(held)
        self.next_offsets.clear()
        self.committed.clear()
        self.topic_ids.clear()
        self.failure = None

    def held(self) -> list[ck.TopicPartition]:
        return [ck.TopicPartition(topic, partition) for topic, partition in sorted(self.next_offsets)]

    def _claim(self, partitions: Sequence[TopicPartition]) -> Sequence[Claim]:
        if self.failure is not None:
            return ()
        try:
            bounds = self._bounds.read(partitions) if partitions else []
            self.topic_ids |= {(b.topic_partition.topic, b.topic_partition.partition): b.topic_id for b in bounds}
            return self._on_assigned(bounds) if bounds else ()
        except Exception as failure:  # noqa: BLE001 - kept, and raised by poll
            self.failure = failure
            return ()

    def _read(self, consumer: ck.Consumer, claims: Sequence[Claim]) -> None:
        starts = [
            ck.TopicPartition(tp.topic, tp.partition, claim.next_offset)
            for claim in claims
            for tp in (claim.topic_partition,)
        ]
        # Also when it is empty: librdkafka waits for an answer to every callback.
        consumer.incremental_assign(starts)
        offsets = {(p.topic, p.partition): p.offset for p in starts}
        self.next_offsets |= offsets
        self.committed |= offsets
        if not starts:
            return
        if self.paused:
            consumer.pause(starts)
        else:
            # The client remembers a pause for a partition that was taken away during it.
            consumer.resume(starts)

    def _leave(self, consumer: ck.Consumer, partitions: list[ck.TopicPartition], *, lost: bool) -> None:
        leaving = {(p.topic, p.partition) for p in partitions}
        self.moved |= leaving
        ours = [TopicPartition(*key) for key in sorted(leaving & self.next_offsets.keys())]
        if ours and self.failure is None:
            try:
                self._on_revoked(ours, lost)
            except Exception as failure:  # noqa: BLE001 - kept, and raised by poll
                self.failure = failure
            log.info("partitions lost" if lost else "partitions revoked", partitions=_names(ours))
        self._given -= leaving
        for key in leaving:
            self.next_offsets.pop(key, None)
            self.committed.pop(key, None)
            self.topic_ids.pop(key, None)
        # Waiting partitions are the group's gift too, but are not assigned here.
        consumer.incremental_unassign([p for p in consumer.assignment() if (p.topic, p.partition) in leaving])


def _names(partitions: Iterable[TopicPartition | ck.TopicPartition]) -> list[str]:
    return [f"{p.topic}[{p.partition}]" for p in partitions]
