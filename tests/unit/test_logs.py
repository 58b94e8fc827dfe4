"""Logs: one form for all, secrets hidden, nothing unbounded."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any, Literal

import pytest
import structlog

from ingest.kafka.broker_errors import ClientLog
from ingest.observability.logs import MAX_TEXT, configure_logs


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where the logs go; the test runner's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


def _lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_one_json_object_per_line(stream: io.StringIO) -> None:
    """Time, level, logger and event come first; fields follow."""
    configure_logs("info", "json", stream)
    structlog.get_logger("ingest.worker").info("committed", events=3, topic="sales")
    (line,) = _lines(stream)
    assert list(line) == ["timestamp", "level", "logger", "event", "events", "topic"]
    assert (line["level"], line["logger"], line["event"], line["events"]) == ("info", "ingest.worker", "committed", 3)


def test_libraries_log_in_the_same_form(stream: io.StringIO) -> None:
    """Lines of the standard library's logging look like our own."""
    configure_logs("info", "json", stream)
    logging.getLogger("psycopg").warning("rolling back %s", "it")
    (line,) = _lines(stream)
    assert (line["level"], line["logger"], line["event"]) == ("warning", "psycopg", "rolling back it")


def test_what_librdkafka_reports_twice_is_logged_once(stream: io.StringIO) -> None:
    """Broken connections come as errors too; other lines of its log are passed on."""
    configure_logs("info", "json", stream)
    client = ClientLog()
    client.log(logging.ERROR, "%s [%s] %s", "FAIL", "tallystream#consumer-1", "connection refused")
    client.log(logging.WARNING, "%s [%s] %s", "MAXPOLL", "tallystream#consumer-1", "leaving group 100%")
    (line,) = _lines(stream)
    assert (line["level"], line["event"], line["facility"]) == ("warning", "leaving group 100%", "MAXPOLL")


def test_levels(stream: io.StringIO) -> None:
    """What is below the level is not logged; libraries are never asked for their debug lines."""
    configure_logs("debug", "json", stream)
    structlog.get_logger("ingest").debug("shown")
    logging.getLogger("psycopg").debug("not shown")
    configure_logs("warning", "json", stream)
    structlog.get_logger("ingest").info("not shown")
    logging.getLogger("psycopg").info("not shown")
    assert [line["event"] for line in _lines(stream)] == ["shown"]


@pytest.mark.scenario("S9")
@pytest.mark.parametrize("form", ["json", "human"])
def test_secrets_are_hidden(stream: io.StringIO, form: Literal["human", "json"]) -> None:
    """By name, inside texts, nested, in arguments, in errors and in tracebacks."""
    configure_logs("info", form, stream)
    log = structlog.get_logger("ingest")
    log.info("a", postgres_dsn="geheim", url="postgresql://app:geheim@db/x", options={"sasl.password": "geheim"})
    log.info("connecting to %s", "postgresql://app:geheim@db/x", nested=[{"x": ("password=geheim",)}])
    logging.getLogger("psycopg").error("password=geheim")
    password = "geheim"  # noqa: S105 - a traceback must not show variables
    try:
        raise ValueError(f"password={password}")
    except ValueError as error:
        log.exception("failed", error=error)
    assert "geheim" not in stream.getvalue()
    assert "Traceback" in stream.getvalue()


def test_long_texts_are_shortened(stream: io.StringIO) -> None:
    """A line has a bound, and says how long the text was."""
    configure_logs("info", "json", stream)
    structlog.get_logger("ingest").info("a", text="x" * 1_000_000)
    (line,) = _lines(stream)
    assert line["text"] == "x" * MAX_TEXT + "... (1000000 characters)"


def test_the_human_form_is_one_readable_line(stream: io.StringIO) -> None:
    """No JSON and, off a terminal, no colours."""
    configure_logs("info", "human", stream)
    structlog.get_logger("ingest").info("committed", events=3)
    text = stream.getvalue()
    assert "committed" in text
    assert "events=3" in text
    assert "\x1b" not in text
    assert not text.startswith("{")
