"""Sends dead letters to a topic: a page at a time, all of it or an error, so that the page comes again."""

import time
from collections.abc import Sequence
from typing import Final

import confluent_kafka as ck

from ingest.domain.compacting import Record
from ingest.errors import OperatorError, SettingsError, TransientError
from ingest.kafka.broker_errors import ClientLog, Troubles, fatal
from ingest.kafka.options import Config

_STEP_S: Final = 0.2
_SLACK_S: Final = 10.0


class DeadLetterProducer:
    """An idempotent producer for the topic of dead letters; it connects when the first page is delivered."""

    def __init__(self, config: Config, topic: str) -> None:
        self._config = config
        self._topic = topic
        self._timeout_s = float(config["delivery.timeout.ms"]) / 1000 + _SLACK_S
        self._troubles = Troubles(time.monotonic)
        self._failure: ck.KafkaError | None = None
        self._producer: ck.Producer | None = None

    def deliver(self, records: Sequence[Record]) -> None:
        """Return when every record is in the topic.

        Raises:
            TransientError: when one of them is not, or nobody knows; then all of them have to be delivered again.
            OperatorError: when the broker will not take them as they are, whatever is tried.
        """
        self._failure = None
        producer = self._connected()
        try:
            for record in records:
                self._produce(producer, record)
        except ck.KafkaException as error:
            raise self._error(error.args[0]) from None
        deadline = time.monotonic() + self._timeout_s
        while producer.flush(_STEP_S) and time.monotonic() < deadline and self._failure is None:
            pass
        if self._failure is not None:
            raise self._error(self._failure)
        if len(producer):
            raise TransientError(f"topic {self._topic}: {len(producer)} dead letters are not delivered yet")

    def close(self) -> None:
        """Forget what is under way; the database still has it as not relayed."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(_STEP_S)
            self._producer = None

    def _produce(self, producer: ck.Producer, record: Record) -> None:
        headers: list[tuple[str, str | bytes | None]] = list(record.headers)
        # To librdkafka 0 is the present, and there is nothing before it.
        timestamp_ms = max(0, record.timestamp_ms or 0)
        deadline = time.monotonic() + self._timeout_s
        while True:
            try:
                producer.produce(
                    self._topic,
                    record.value,
                    record.key,
                    on_delivery=self._on_delivery,
                    timestamp=timestamp_ms,
                    headers=headers,
                )
            except BufferError:
                if time.monotonic() >= deadline:
                    raise TransientError(f"topic {self._topic}: Kafka takes no dead letters") from None
                producer.poll(_STEP_S)
            else:
                return

    def _connected(self) -> ck.Producer:
        if self._producer is None:
            try:
                self._producer = ck.Producer(self._config | {"error_cb": self._on_error}, logger=ClientLog())
            except (ck.KafkaException, ValueError, TypeError) as error:
                raise SettingsError(f"kafka_options: {error.args[0]}") from None
        return self._producer

    def _on_delivery(self, error: ck.KafkaError | None, _message: ck.Message) -> None:
        if error is not None:
            self._failure = error

    def _on_error(self, error: ck.KafkaError) -> None:
        if fatal(error):
            self._failure = error
        else:
            self._troubles.note(error)

    def _error(self, error: ck.KafkaError) -> TransientError | OperatorError:
        # Nothing of this page is known to be there; what may still be under way must not come after the next try.
        self.close()
        if error.code() == ck.KafkaError.MSG_SIZE_TOO_LARGE:
            return OperatorError(
                f"topic {self._topic} does not take a dead letter: {error.str()}; raise its max.message.bytes, and"
                " message.max.bytes in kafka_options: the headers that say why come on top of the record"
            )
        return TransientError(f"topic {self._topic} does not take dead letters: {error.str()}")
