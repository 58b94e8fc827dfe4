"""What the broker has of a partition, asked for before the partition is read.

The log's start and end and the topic's id are what a stored position is checked against. A
partition that nothing is known about within the time limit is left out, with a warning: the caller
asks again later, and the others are read meanwhile.
"""

import threading
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

import confluent_kafka as ck
import structlog
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # public, though not in __all__

from ingest.domain.positions import LogBounds, TopicPartition
from ingest.kafka.broker_errors import ClientLog
from ingest.kafka.options import Config

# A new topic is not known to every broker at once; this is how often it is asked again.
_RETRY_PAUSE_S = 0.1
_LEAST_TIMEOUT_S = 0.5
# No batch is committed meanwhile.
_IDS_TIMEOUT_S = 5.0
# librdkafka answers within the request's own limit; this covers the way through its queues.
_SLACK_S = 1.0

log = structlog.get_logger(__name__)

K = TypeVar("K", bound=Hashable)
Answers = Mapping[K, Future[Any]]


class ReadsBounds(Protocol):
    """What the consumer needs to know about partitions before it reads them."""

    def read(self, partitions: Sequence[TopicPartition]) -> list[LogBounds]:
        """Return the bounds of each that the broker tells about, in the same order."""

    def ask_topic_ids(self, topics: Sequence[str]) -> Mapping[str, Future[str]]:
        """Ask for the ids that topics have now; the answers come by themselves. For any thread."""


class BoundsReader:
    """Asks the cluster: for bounds with a connection for each time, because partitions are assigned rarely."""

    def __init__(self, config: Config, timeout_s: float) -> None:
        self._config = config
        self._timeout_s = timeout_s
        self._ids: AdminClient | None = None
        self._is_lost = False
        self._asking = threading.Lock()

    def read(self, partitions: Sequence[TopicPartition]) -> list[LogBounds]:
        admin = AdminClient(dict(self._config), logger=ClientLog())
        try:
            return _bounds(admin, partitions, _Deadline(self._timeout_s))
        finally:
            admin.poll(0)  # hands over what it logged

    def ask_topic_ids(self, topics: Sequence[str]) -> Mapping[str, Future[str]]:
        # The client asks the one broker that it takes for the controller, for minutes after that one has died: a client
        # that got no answer is replaced by one that looks for a broker anew.
        with self._asking:
            if self._ids is None or self._is_lost:
                self._ids = AdminClient(dict(self._config), logger=ClientLog())
                self._is_lost = False
            self._ids.poll(0)
            timeout_s = min(self._timeout_s, _IDS_TIMEOUT_S)
            asked = self._ids.describe_topics(ck.TopicCollection(list(topics)), request_timeout=timeout_s)
        return {topic: _mapped(answer, self._lose) for topic, answer in asked.items()}

    def _lose(self) -> None:
        """Not replaced here: this is the client's own thread."""
        self._is_lost = True


def _bounds(admin: AdminClient, partitions: Sequence[TopicPartition], deadline: "_Deadline") -> list[LogBounds]:
    topics = _topics(admin, sorted({tp.topic for tp in partitions}), deadline)
    known = [tp for tp in partitions if tp.topic in topics]
    lows = _offsets(admin, known, OffsetSpec.earliest(), deadline)  # type: ignore[no-untyped-call]
    highs = _offsets(admin, known, OffsetSpec.latest(), deadline)  # type: ignore[no-untyped-call]
    return [
        LogBounds(tp, topics[tp.topic][0], lows[tp], highs[tp], topics[tp.topic][1])
        for tp in partitions
        if tp in lows and tp in highs
    ]


def _topics(admin: AdminClient, topics: Sequence[str], deadline: "_Deadline") -> Mapping[str, tuple[str | None, int]]:
    """Return id and number of partitions by topic: no cluster without a controller tells, which is a simulated one."""
    try:
        cluster = admin.list_topics(timeout=deadline.left())
        if cluster.controller_id not in cluster.brokers:
            return dict.fromkeys(topics, (None, 0))
    except ck.KafkaException as error:
        log.warning("the broker does not answer", reason=_reason(error))
        return {}

    def ask(missing: Sequence[str], left: float) -> Answers[str]:
        return admin.describe_topics(ck.TopicCollection(list(missing)), request_timeout=left)

    return {
        topic: (_as_kafka_prints(answer.topic_id), len(answer.partitions))
        for topic, answer in _ask(topics, ask, deadline).items()
    }


def _offsets(
    admin: AdminClient, partitions: Sequence[TopicPartition], spec: OffsetSpec, deadline: "_Deadline"
) -> Mapping[TopicPartition, int]:
    def ask(missing: Sequence[TopicPartition], left: float) -> Answers[TopicPartition]:
        questions = {ck.TopicPartition(tp.topic, tp.partition): spec for tp in missing}
        answers = admin.list_offsets(questions, request_timeout=left)
        return {TopicPartition(asked.topic, asked.partition): answer for asked, answer in answers.items()}

    return {tp: answer.offset for tp, answer in _ask(partitions, ask, deadline).items()}


class _Deadline:
    """One limit for several questions."""

    def __init__(self, timeout_s: float) -> None:
        self._end = time.monotonic() + timeout_s

    def left(self) -> float:
        return max(_LEAST_TIMEOUT_S, self._end - time.monotonic())

    def passed(self) -> bool:
        return time.monotonic() >= self._end


def _ask(things: Sequence[K], ask: Callable[[Sequence[K], float], Answers[K]], deadline: _Deadline) -> dict[K, Any]:
    """Ask about each thing until it is answered or time is up."""
    found: dict[K, Any] = {}
    while missing := [thing for thing in things if thing not in found]:
        left = deadline.left()
        failure = None
        for thing, answer in ask(missing, left).items():
            try:
                found[thing] = answer.result(left + _SLACK_S)
            except (ck.KafkaException, TimeoutError) as error:
                failure = thing, _reason(error)
        if failure is None:
            break
        if deadline.passed():
            log.warning("the broker does not tell", about=str(failure[0]), reason=failure[1])
            break
        time.sleep(_RETRY_PAUSE_S)
    return found


def _mapped(description: Future[Any], failed: Callable[[], None]) -> Future[str]:
    """The id of a description that is still to come."""
    topic_id: Future[str] = Future()

    def hand_on(done: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            topic_id.set_result(_as_kafka_prints(done.result().topic_id))
        else:
            failed()
            topic_id.set_exception(error)

    description.add_done_callback(hand_on)
    return topic_id


def _as_kafka_prints(topic_id: ck.Uuid) -> str:
    """Write an id as Kafka's own tools do: librdkafka uses the other alphabet of base64."""
    return str(topic_id).replace("+", "-").replace("/", "_")


def _reason(error: Exception) -> str:
    if isinstance(error, ck.KafkaException) and isinstance(error.args[0], ck.KafkaError):
        return error.args[0].str()
    return str(error) or "no answer in time"
