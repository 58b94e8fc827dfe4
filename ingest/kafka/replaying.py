"""Reads a stretch of some partitions again, without the consumer group: nobody else's reading is disturbed.

`TopicReader` promises every record between two offsets, in the order of the log, once for each `open`; it knows that
all have come although offsets have gaps, from a record beyond or from the log's end. It commits nothing to Kafka.
"""

from collections.abc import Mapping, Sequence

import confluent_kafka as ck
import structlog

from ingest.domain.messages import Message
from ingest.domain.positions import LogBounds, TopicPartition
from ingest.errors import OperatorError, SettingsError, TransientError
from ingest.kafka.bounds import ReadsBounds
from ingest.kafka.broker_errors import ClientLog, Troubles, fatal, hopeless_from_the_start, outside_log, unreadable
from ingest.kafka.consumer import as_message
from ingest.kafka.options import Config

log = structlog.get_logger(__name__)


class TopicReader:
    """A consumer that is told what to read, and joins no group."""

    def __init__(self, config: Config, bounds: ReadsBounds, troubles: Troubles) -> None:
        self._bounds = bounds
        self._troubles = troubles
        self._ends: dict[tuple[str, int], int] = {}
        self._failure: Exception | None = None
        self._ever_read = False
        # The log's end is news here: it says that nothing is left, where transactions leave offsets without records.
        own = {"enable.partition.eof": True, "error_cb": self._on_error}
        try:
            self._consumer = ck.Consumer(config | own, logger=ClientLog())
        except (ck.KafkaException, ValueError, TypeError) as error:
            raise SettingsError(f"kafka_options: {error.args[0]}") from None

    def bounds(self, partitions: Sequence[TopicPartition]) -> Sequence[LogBounds]:
        """Return what the broker has of each partition that it tells about."""
        return self._bounds.read(partitions)

    def open(self, spans: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """Begin to read each partition from the first to before the second offset."""
        self._ends = {(tp.topic, tp.partition): end for tp, (_, end) in spans.items()}
        self._consumer.assign([ck.TopicPartition(tp.topic, tp.partition, start) for tp, (start, _) in spans.items()])

    def read(self, most: int, timeout_s: float) -> list[Message]:
        """Return what has come within the time; possibly nothing."""
        try:
            records = self._consumer.consume(most, timeout_s)
        except ck.KafkaException as error:
            self._on_error(error.args[0])
            records = []
        messages = []
        for record in records:
            if record.error() is not None:
                self._on_record_error(record)
                continue
            message = as_message(record)
            end = self._ends.get((message.topic, message.partition))
            if end is not None and message.offset < end:
                messages.append(message)
            else:
                self._reached(message.topic, message.partition)
            if end is not None and message.offset >= end - 1:
                self._reached(message.topic, message.partition)
        if self._failure is not None:
            raise self._failure
        self._ever_read = self._ever_read or bool(messages)
        return messages

    def is_done(self) -> bool:
        """Whether everything was returned that `open` asked for."""
        return not self._ends

    def close(self) -> None:
        """Give back the connections; nothing is committed."""
        self._consumer.close()

    def _reached(self, topic: str, partition: int) -> None:
        """Read no more of a partition: its queue would fill up with what is not wanted."""
        if self._ends.pop((topic, partition), None) is not None:
            self._consumer.incremental_unassign([ck.TopicPartition(topic, partition)])

    def _on_record_error(self, record: ck.Message) -> None:
        error, topic, partition, offset = record.error(), record.topic(), record.partition(), record.offset()
        if error is None or topic is None or partition is None:
            return
        where = f"topic {topic} partition {partition} at offset {offset}"
        if error.code() == ck.KafkaError._PARTITION_EOF:  # noqa: SLF001 - the name that the library gives it
            end = self._ends.get((topic, partition))
            if end is not None and offset is not None and offset >= end:
                self._reached(topic, partition)
        elif outside_log(error):
            self._failure = TransientError(f"{where}: the log does not have it: {error.str()}")
        elif unreadable(error):
            self._failure = OperatorError(f"{where} cannot be read, and was not skipped: {error.str()}")
        else:
            self._on_error(error)

    def _on_error(self, error: ck.KafkaError) -> None:
        if fatal(error) or (not self._ever_read and hopeless_from_the_start(error)):
            self._failure = OperatorError(f"Kafka cannot be used with these settings: {error.str()}")
        else:
            self._troubles.note(error)
