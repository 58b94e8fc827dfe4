"""Reads messages from Kafka: exactly those of partitions this process holds a claim for.

`KafkaSource` promises that a partition's messages come in the order of the log, from the claim's
offset on, each once per claim, and never after the partition was given up. It keeps no position of
its own: where to begin comes from the handlers, and what is told to Kafka is only for others to see.

It logs what recovers by itself and raises what does not: `OperatorError` when a person has to act,
and whatever a handler raised. After an exception only `rejoin` and `close` make sense, and every
further `poll` raises the same.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

import confluent_kafka as ck
import structlog

from ingest.domain.messages import Message
from ingest.domain.positions import TopicPartition
from ingest.domain.progress import KafkaState, LogEnd
from ingest.errors import OperatorError, SettingsError
from ingest.kafka.bounds import ReadsBounds
from ingest.kafka.broker_errors import ClientLog, Troubles, fatal, hopeless_from_the_start, outside_log, unreadable
from ingest.kafka.confirming import Confirmation
from ingest.kafka.options import Config
from ingest.kafka.rebalance import Assignment, Key, OnAssigned, OnRevoked
from ingest.kafka.stalling import Stalls
from ingest.kafka.statistics import EVERY_MS, Statistics

# A partition that could not be claimed is offered again after this time; and one that the log does not go on for
# is given up after it, even if what was read of it is not committed.
_OFFER_AGAIN_S = 30.0
_OFFER_AFTER_REJOINING_S = 5.0

_CLOSE_TIMEOUT_S = 5.0

_MIRROR_AGAIN_S = 1.0
_LOOK_EVERY_S = 1.0

log = structlog.get_logger(__name__)


class KafkaSource:
    """One member of a consumer group."""

    def __init__(
        self, config: Config, topics: Sequence[str], bounds: ReadsBounds, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._topics = list(topics)
        self._bounds = bounds
        self._clock = clock
        self._troubles = Troubles(clock)
        self._offer_at = 0.0
        self._ended: dict[TopicPartition, float] = {}
        self._skipped: set[Key] = set()
        self._unmirrored: set[TopicPartition] = set()
        self._mirror_again_at = 0.0
        self._assignment = Assignment(bounds, lambda _: (), lambda _partitions, _lost: None)
        self._ever_read = False
        self._statistics = Statistics()
        self._stalls = Stalls(clock)
        self._state = KafkaState(connected=False, joined=False)
        self._look_at = 0.0
        self._heard = False
        callbacks = {"error_cb": self._on_error, "on_commit": self._on_commit, "stats_cb": self._statistics.read}
        own = {**callbacks, "statistics.interval.ms": EVERY_MS}
        try:
            self._consumer = ck.Consumer(config | own, logger=ClientLog())
        except (ck.KafkaException, ValueError, TypeError) as error:
            raise SettingsError(f"kafka_options: {error.args[0]}") from None

    def start(self, on_assigned: OnAssigned, on_revoked: OnRevoked) -> None:
        """Join the group; the handlers are called inside `poll` from now on.

        `on_assigned` gets the bounds of partitions to claim and returns the claims; what it leaves out is not
        read, and offered again later. `on_revoked` gets claimed partitions that leave, and whether they are lost.
        """
        paused = self._assignment.paused
        self._assignment = Assignment(self._bounds, on_assigned, on_revoked)
        self._assignment.paused = paused
        self._subscribe()

    def poll(self, max_messages: int, timeout_s: float) -> list[Message]:
        """Return what has come within the time, at most so many; possibly nothing."""
        assignment = self._assignment
        self._raise_failure()
        assignment.moved.clear()
        self._care_for_waiting()
        self._mirror_again()
        self._stalls.note(self._statistics.fetched)
        records = self._consume(max_messages, timeout_s)
        self._raise_failure()
        accepted = self._accept(records)
        self._raise_failure()
        assignment.restart(self._consumer, assignment.moved)
        return accepted

    def confirm(self, partitions: Collection[TopicPartition]) -> Confirmation:
        """Ask whether what was read of these partitions is of the topics that were claimed; for before the commit."""
        keys = [(tp.topic, tp.partition) for tp in partitions]
        claimed = {key: topic_id for key in keys if (topic_id := self._assignment.topic_ids.get(key)) is not None}
        held = self._assignment.next_offsets
        return Confirmation(self._bounds.ask_topic_ids, claimed, lambda: all(key in held for key in keys))

    def pause(self) -> None:
        """Let `poll` keep the membership alive without returning messages."""
        self._assignment.paused = True
        if held := self._assignment.held():
            self._consumer.pause(held)

    def resume(self) -> None:
        """Go on where `pause` stopped; nothing is skipped."""
        self._assignment.paused = False
        if held := self._assignment.held():
            self._consumer.resume(held)
        self._assignment.restart(self._consumer, self._skipped)
        self._skipped.clear()

    def mirror(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Tell Kafka the next offsets, for tools that show the lag; a failure is of no consequence."""
        held = self._assignment.next_offsets
        ours = [
            ck.TopicPartition(tp.topic, tp.partition, offset)
            for tp, offset in offsets.items()
            if (tp.topic, tp.partition) in held
        ]
        if not ours:
            return
        self._assignment.committed |= {(p.topic, p.partition): p.offset for p in ours}
        try:
            self._consumer.commit(offsets=ours, asynchronous=True)
        except (ck.KafkaException, RuntimeError) as error:
            self._not_mirrored(ours, str(error))

    def rejoin(self) -> None:
        """Give up every partition and join the group again; the handlers are not asked."""
        self._assignment.forget(self._consumer)
        self._ended.clear()
        self._skipped.clear()
        self._consumer.unsubscribe()
        self._subscribe()
        self._offer_at = self._clock() + _OFFER_AFTER_REJOINING_S

    def high_watermarks(self, partitions: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        """Return the logs' ends as of the last answers from the broker; without asking it."""
        found = {}
        for tp in partitions:
            try:
                _, high = self._consumer.get_watermark_offsets(ck.TopicPartition(tp.topic, tp.partition), cached=True)
            except ck.KafkaException:
                continue
            if high >= 0:
                found[tp] = high
        return found

    def state(self) -> KafkaState:
        """Tell what was known of the group and the logs a moment ago, without asking anybody."""
        if self._clock() >= self._look_at:
            self._look_at = self._clock() + _LOOK_EVERY_S
            self._state = self._look()
        return self._state

    def close(self) -> None:
        """Leave the group; the handlers are not asked."""
        self._assignment.forget(self._consumer)
        self._fail(RuntimeError("the source is closed"))
        # Without a coordinator librdkafka waits for the session's end (classic, when a commit is under way), or for
        # ever (consumer). The group misses us soon enough, and a process that is told to stop has to.
        closing = threading.Thread(target=self._consumer.close, name="leave group", daemon=True)
        closing.start()
        closing.join(_CLOSE_TIMEOUT_S)
        if closing.is_alive():
            log.warning("the group could not be left in order; it will notice", waited_s=_CLOSE_TIMEOUT_S)

    def _look(self) -> KafkaState:
        held = [TopicPartition(*key) for key in sorted(self._assignment.next_offsets)]
        ends = {tp: self._end(tp, high) for tp, high in self.high_watermarks(held).items()}
        known, heard, self._heard = self._statistics, self._heard, False
        return KafkaState(known.connected or heard, known.joined, ends, frozenset(self._assignment.waiting()))

    def _end(self, tp: TopicPartition, high: int) -> LogEnd:
        """The log's end for us: markers of transactions behind the last record are nothing to wait for."""
        fetched = self._statistics.fetched.get(tp)
        if fetched is None:
            return LogEnd(high)
        key = tp.topic, tp.partition
        is_level = fetched.next_offset >= high and not self._assignment.paused and key not in self._skipped
        end = self._assignment.next_offsets[key] if is_level else high
        return LogEnd(end, max(0, fetched.high - fetched.stable))

    def _subscribe(self) -> None:
        assignment = self._assignment
        self._consumer.subscribe(
            self._topics, on_assign=assignment.assigned, on_revoke=assignment.revoked, on_lost=assignment.lost
        )
        self._offer_at = self._clock() + _OFFER_AGAIN_S

    def _consume(self, max_messages: int, timeout_s: float) -> list[ck.Message]:
        try:
            return self._consumer.consume(max_messages, timeout_s)
        except ck.KafkaException as error:
            self._on_error(error.args[0])
            return []

    def _accept(self, records: Sequence[ck.Message]) -> list[Message]:
        """Keep the messages of claimed partitions, in order; handle the errors that came among them."""
        next_offsets = self._assignment.next_offsets
        moved = self._assignment.moved
        ended = {(tp.topic, tp.partition) for tp in self._ended}
        accepted = []
        for record in records:
            if record.error() is not None:
                self._on_record_error(record)
                continue
            message = as_message(record)
            key = (message.topic, message.partition)
            expected = next_offsets.get(key)
            if expected is None or message.offset < expected or key in moved or key in ended:
                continue
            if self._assignment.paused:  # it was on its way when the pause began
                self._skipped.add(key)
                continue
            next_offsets[key] = message.offset + 1
            accepted.append(message)
        self._ever_read = self._ever_read or bool(accepted)
        self._heard = self._heard or bool(accepted)
        return accepted

    def _care_for_waiting(self) -> None:
        """Offer what is not read, from time to time; and what cannot go on, once all that was read is committed."""
        now = self._clock()
        for partition, give_up_at in list(self._ended.items()):
            if self._assignment.is_settled(partition) or now >= give_up_at:
                del self._ended[partition]
                self._assignment.release(self._consumer, partition)
                self._offer_at = now
        if now >= self._offer_at:
            self._offer_at = now + _OFFER_AGAIN_S
            if self._assignment.waiting():
                self._assignment.offer_waiting(self._consumer)
        self._raise_failure()

    def _on_record_error(self, record: ck.Message) -> None:
        error, topic, partition = record.error(), record.topic(), record.partition()
        if error is None:
            return
        if outside_log(error) and topic is not None and partition is not None:
            log.warning("the log does not have the next offset", topic=topic, partition=partition, reason=error.str())
            self._ended[TopicPartition(topic, partition)] = self._clock() + _OFFER_AGAIN_S
        elif unreadable(error):
            where = f"topic {topic} partition {partition} at offset {record.offset()}"
            self._fail(OperatorError(f"{where} cannot be read, and was not skipped: {error.str()}"))
        else:
            self._on_error(error)

    def _on_error(self, error: ck.KafkaError) -> None:
        """Log what recovers by itself; keep what does not, for `poll` to raise."""
        if fatal(error):
            self._fail(OperatorError(f"Kafka refuses this worker for good: {error.str()}"))
        elif not self._ever_read and hopeless_from_the_start(error):
            self._fail(OperatorError(f"Kafka cannot be used with these settings: {error.str()}"))
        else:
            self._troubles.note(error)

    def _on_commit(self, error: ck.KafkaError | None, partitions: list[ck.TopicPartition]) -> None:
        failed = partitions if error is not None else [p for p in partitions if p.error is not None]
        if failed:
            self._not_mirrored(failed, error.str() if error is not None else str(failed[0].error))

    def _not_mirrored(self, partitions: Sequence[ck.TopicPartition], reason: str) -> None:
        """Keep in mind what a rebalance was in the way of: there may be no later batch to tell it."""
        log.debug("offsets not mirrored to Kafka", reason=reason)
        self._unmirrored |= {TopicPartition(p.topic, p.partition) for p in partitions}
        self._mirror_again_at = self._clock() + _MIRROR_AGAIN_S

    def _mirror_again(self) -> None:
        if self._unmirrored and self._clock() >= self._mirror_again_at:
            told = self._assignment.committed
            latest = {tp: told[tp.topic, tp.partition] for tp in self._unmirrored if (tp.topic, tp.partition) in told}
            self._unmirrored.clear()
            self.mirror(latest)

    def _fail(self, failure: Exception) -> None:
        self._assignment.failure = self._assignment.failure or failure

    def _raise_failure(self) -> None:
        if self._assignment.failure is not None:
            raise self._assignment.failure


def as_message(record: ck.Message) -> Message:
    """Return a record as the program knows it."""
    kind, timestamp = record.timestamp()
    return Message(
        topic=record.topic() or "",
        partition=record.partition() or 0,
        offset=record.offset() or 0,
        timestamp_ms=None if kind == ck.TIMESTAMP_NOT_AVAILABLE else timestamp,
        key=record.key(),
        value=record.value(),
        headers=tuple(cast("list[tuple[str, bytes | None]]", record.headers() or [])),
    )
