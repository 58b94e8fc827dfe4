"""What to make of librdkafka's errors and log lines: what recovers by itself, and how often to mention it."""
# ruff: noqa: SLF001 - codes of librdkafka's own begin with an underscore; they are documented and public

import logging
from collections.abc import Callable

import structlog
from confluent_kafka import KafkaError

_SAME_AGAIN_S = 60.0

# Before the first message these mean that the settings are wrong. Later they may be a rolling change of
# certificates or rights: a worker that works is not stopped for that.
_HOPELESS = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError._INVALID_ARG,
        KafkaError._SSL,
        KafkaError._UNSUPPORTED_FEATURE,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.INCONSISTENT_GROUP_PROTOCOL,
        KafkaError.INVALID_GROUP_ID,
        KafkaError.INVALID_SESSION_TIMEOUT,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.TOPIC_EXCEPTION,
        KafkaError.UNSUPPORTED_SASL_MECHANISM,
        KafkaError.UNSUPPORTED_VERSION,
    }
)

_FATAL = frozenset({KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID, KafkaError.UNRELEASED_INSTANCE_ID})

# Lines of librdkafka's log that it also reports as errors: many a second while a broker is away.
_ALSO_ERRORS = frozenset({"FAIL", "ERROR"})

# librdkafka reports such records and goes on behind them.
_UNREADABLE = frozenset({KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION})

log = structlog.get_logger(__name__)


def fatal(error: KafkaError) -> bool:
    """Tell whether this client is done for; as an event of its own, such an error does not carry the mark."""
    return error.fatal() or error.code() in _FATAL


def hopeless_from_the_start(error: KafkaError) -> bool:
    """Tell whether this, before anything was read, is for a person to correct."""
    return error.code() in _HOPELESS


def unreadable(error: KafkaError) -> bool:
    """Tell whether the reader is about to miss records."""
    return error.code() in _UNREADABLE


def outside_log(error: KafkaError) -> bool:
    """Tell whether the next offset of a partition is not in its log."""
    return error.code() == KafkaError._AUTO_OFFSET_RESET


class Troubles:
    """Logs each kind of error when it first comes, and again only after a while."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._logged: dict[str, float] = {}

    def note(self, error: KafkaError) -> None:
        now = self._clock()
        if now - self._logged.get(error.name(), float("-inf")) >= _SAME_AGAIN_S:
            self._logged[error.name()] = now
            log.warning("trouble with Kafka; waiting for it to recover", code=error.name(), reason=error.str())


class ClientLog:
    """What librdkafka takes as its logger: passes lines on, unless they come as errors too."""

    def log(self, level: int, _form: str, facility: str, client: str, text: str) -> None:
        """Take one line, in librdkafka's way of calling."""
        log.log(logging.DEBUG if facility in _ALSO_ERRORS else level, text, facility=facility, client=client)
