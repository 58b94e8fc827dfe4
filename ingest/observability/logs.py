"""One form for every log line: the program's own, librdkafka's and psycopg's.

On a terminal a line is for reading; elsewhere it is one JSON object. Everything goes to standard
error, since standard output is for results. Passwords and keys are hidden wherever they turn up,
tracebacks included; and a traceback never shows the values of variables.
"""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from typing import Any, Literal

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from ingest.domain.redaction import HIDDEN, names_secret, without_secrets
from ingest.observability.sink import Stream

# A line longer than this helps nobody and breaks collectors of logs.
MAX_TEXT = 8192
MAX_DEPTH = 5

# Chatty below this level, whatever ours is: their debug lines are about themselves.
_LIBRARIES = ("psycopg", "psycopg.pool", "librdkafka", "asyncio")


def configure_logs(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["auto", "human", "json"] = "auto",
    stream: Stream | None = None,
) -> None:
    """Send structlog and the standard library's logging to one place, in one form."""
    stream = stream or sys.stderr
    human = stream.isatty() if form == "auto" else form == "human"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f" if human else "iso", utc=not human),
        structlog.processors.StackInfoRenderer(),
        structlog.processors.format_exc_info,
        redact,
    ]
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(stream, human=human)],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(level.upper())
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(max(root.level, logging.INFO))


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Hide secrets, by the names of fields and by what texts look like; shorten what is too long."""
    return _redacted(event, 0)


def _redacted(fields: MutableMapping[str, Any] | Mapping[str, Any], depth: int) -> dict[str, Any]:
    return {
        str(name): HIDDEN if names_secret(str(name)) and value else _clean(value, depth)
        for name, value in fields.items()
    }


def _clean(value: object, depth: int) -> object:
    if isinstance(value, str):
        text = without_secrets(value)
        return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}... ({len(text)} characters)"
    if isinstance(value, Mapping):
        return _redacted(value, depth + 1) if depth < MAX_DEPTH else "..."
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item, depth + 1) for item in value] if depth < MAX_DEPTH else "..."
    return value if value is None or isinstance(value, bool | int | float) else _clean(str(value), depth)


def _renderers(stream: Stream, *, human: bool) -> list[Processor]:
    if human:
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=plain)]
    return [_first_things_first, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _first_things_first(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {name: event.pop(name) for name in ("timestamp", "level", "logger", "event") if name in event}
    return {**first, **event}
