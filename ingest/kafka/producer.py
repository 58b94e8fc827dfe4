"""Sends events to a topic: none lost, none twice, none out of order within a recorder.

What could not be delivered is told at the end, with the tag the caller gave it. The queue is
bounded: `send` waits while it is full.
"""

import time
from dataclasses import dataclass
from functools import partial

import confluent_kafka as ck
import structlog

from ingest.errors import OperatorError, SettingsError
from ingest.kafka.broker_errors import ClientLog, Troubles, fatal, hopeless_from_the_start
from ingest.kafka.options import Config

# Every message is delivered or given up by librdkafka within its delivery time-out; this is for the way back.
_SLACK_S = 10.0
_STEP_S = 0.5
_METADATA_TIMEOUT_S = 10.0
# librdkafka's own option for the same thing; a busy cluster needs some seconds.
_NEW_TOPIC_OPTION = "topic.metadata.propagation.max.ms"
_NEW_TOPIC_MS = 10_000
# What a person reads of a million equal failures.
_MOST_FAILURES = 1000

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Undelivered:
    """A message that is not in the topic, or not known to be, and why."""

    tag: int
    reason: str


class EventProducer:
    """An idempotent producer for one topic."""

    def __init__(self, config: Config, topic: str) -> None:
        self.delivered = 0
        self.failed = 0
        self.failures: list[Undelivered] = []
        self._topic = topic
        self._servers = str(config["bootstrap.servers"])
        timeout_ms = config.get("delivery.timeout.ms") or config.get("message.timeout.ms") or 0
        self._longest_wait_s = float(timeout_ms) / 1000 + _SLACK_S
        self._new_topic_s = float(config.get(_NEW_TOPIC_OPTION, _NEW_TOPIC_MS)) / 1000
        self._refusal: OperatorError | None = None
        self._troubles = Troubles(time.monotonic)
        try:
            self._producer = ck.Producer(config | {"error_cb": self._on_error}, logger=ClientLog())
        except (ck.KafkaException, ValueError, TypeError) as error:
            raise SettingsError(f"kafka_options: {error.args[0]}") from None

    def check_topic(self, timeout_s: float = _METADATA_TIMEOUT_S) -> None:
        """Fail early, and with the reason, when the broker or the topic is not there.

        A topic that was created a moment ago is waited for: not every broker knows of it yet.
        """
        deadline = None
        while (error := self._topic_error(timeout_s)) is not None:
            missing = error.code() == ck.KafkaError.UNKNOWN_TOPIC_OR_PART
            if not missing and not error.retriable():
                raise OperatorError(f"topic {self._topic} at {self._servers} cannot be used: {error.str()}")
            if deadline is None:
                deadline = time.monotonic() + self._new_topic_s
                _log.info("waiting for the topic", topic=self._topic, reason=error.str(), at_most_s=self._new_topic_s)
            if time.monotonic() >= deadline:
                what = "does not exist" if missing else "cannot be used"
                raise OperatorError(
                    f"topic {self._topic} {what} at {self._servers} after {self._new_topic_s:g} s: {error.str()};"
                    f" create it, or name another ({_NEW_TOPIC_OPTION} in kafka_options is how long it is waited for)"
                )
            time.sleep(_STEP_S)

    def send(self, key: bytes, value: bytes, tag: int = 0) -> None:
        """Queue an event; the tag names it should it fail."""
        deadline = None
        while True:
            self._raise_refusal()
            try:
                self._producer.produce(self._topic, value, key, on_delivery=partial(self._on_delivery, tag))
                self._producer.poll(0)
            except BufferError:
                deadline = deadline or time.monotonic() + self._longest_wait_s
                if time.monotonic() >= deadline:
                    raise OperatorError(f"Kafka at {self._servers} takes nothing more; sending was given up") from None
                self._producer.poll(_STEP_S)
                continue
            except ck.KafkaException as error:
                self._fail(tag, error.args[0])
            return

    def flush(self) -> None:
        """Wait until every event is delivered or has failed."""
        deadline = time.monotonic() + self._longest_wait_s
        while self._producer.flush(_STEP_S) and time.monotonic() < deadline:
            self._raise_refusal()
        self._raise_refusal()

    @property
    def waiting(self) -> int:
        """The number of events that are queued or under way."""
        return len(self._producer)

    def _topic_error(self, timeout_s: float) -> ck.KafkaError | None:
        try:
            error: ck.KafkaError | None = (
                self._producer.list_topics(self._topic, timeout=timeout_s).topics[self._topic].error
            )
        except ck.KafkaException as failure:
            self._producer.poll(0)
            self._raise_refusal()
            raise OperatorError(
                f"no Kafka broker at {self._servers} answers within {timeout_s:g} s: {failure.args[0].str()};"
                " check kafka_bootstrap_servers, and security.protocol in kafka_options"
            ) from None
        return error

    def _on_delivery(self, tag: int, error: ck.KafkaError | None, _message: ck.Message) -> None:
        if error is None:
            self.delivered += 1
        else:
            self._fail(tag, error)

    def _fail(self, tag: int, error: ck.KafkaError) -> None:
        self.failed += 1
        if len(self.failures) < _MOST_FAILURES:
            self.failures.append(Undelivered(tag, error.str()))

    def _on_error(self, error: ck.KafkaError) -> None:
        if fatal(error) or (not self.delivered and hopeless_from_the_start(error)):
            self._refusal = OperatorError(f"Kafka at {self._servers} refuses this producer: {error.str()}")
        else:
            self._troubles.note(error)

    def _raise_refusal(self) -> None:
        if self._refusal is not None:
            raise self._refusal
