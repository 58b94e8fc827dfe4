"""A span for each batch, linked to the spans in which its events were made; an extra, and off unless it is asked for.

The span opens with the first attempt to apply the batch and ends when the batch is committed or dropped; what was tried
again is an event of it. Events say where they come from in their header `traceparent`. Where spans go to, and how many
of them, is said by OpenTelemetry's own variables; they are sent by a thread of their own, and dropped when it cannot.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, Tracer
from opentelemetry.trace import Span as TraceSpan

from ingest.domain.applying import Applied, Claims, Registry, Standing, Store
from ingest.domain.batches import Batch, Span
from ingest.domain.messages import Message
from ingest.domain.positions import Claim, LogBounds
from ingest.errors import RegistryChangedError, TransientError

MOST_LINKS: Final = 128
"""More than these are dropped by OpenTelemetry anyway."""

_HEADER: Final = "traceparent"
_TRACEPARENT: Final = re.compile(rb"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")


@dataclass(slots=True)
class _Open:
    """The span of the batch that is being applied; one that is decoded anew has the same places in the log."""

    spans: tuple[Span, ...]
    trace: TraceSpan


class TracedStore:
    """Stands before the store, and does nothing else to it."""

    def __init__(self, store: Store, tracer: Tracer) -> None:
        self._store = store
        self._tracer = tracer
        self._open: _Open | None = None

    def registry(self) -> Registry:
        return self._store.registry()

    def claim(self, bounds: Sequence[LogBounds]) -> Claims:
        return self._store.claim(bounds)

    def holds(self, claims: Sequence[Claim]) -> bool:
        return self._store.holds(claims)

    def apply(self, batch: Batch, registry: Registry) -> Applied:
        """Apply it, within its span."""
        trace = self._span_of(batch)
        try:
            applied = self._store.apply(batch, registry)
        except (TransientError, RegistryChangedError) as error:
            # The type alone: what a server says may quote what is in it.
            trace.add_event("tried again", {"error": type(error).__name__})
            raise
        except BaseException as error:
            self._end(StatusCode.ERROR, type(error).__name__)
            raise
        trace.set_attributes(_attributes(applied))
        self._end(StatusCode.OK)
        return applied

    def standing(self, batch: Batch) -> Standing:
        """Ask, and end the span when that settles it."""
        standing = self._store.standing(batch)
        if standing is Standing.COMMITTED:
            self._end(StatusCode.OK)
        elif standing is Standing.FENCED:
            self._end(StatusCode.ERROR, "fenced")
        return standing

    def close(self) -> None:
        """Close the store; a batch that is not committed by now was dropped."""
        self._end(StatusCode.ERROR, "dropped")
        self._store.close()

    def _span_of(self, batch: Batch) -> TraceSpan:
        if self._open is not None and self._open.spans == batch.spans:
            return self._open.trace
        self._end(StatusCode.ERROR, "dropped")
        trace = self._tracer.start_span(
            "apply batch",
            kind=SpanKind.CONSUMER,
            links=links_of(batch.messages),
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.batch.message_count": len(batch.items),
                "messaging.destination.name": ",".join(sorted({s.claim.topic_partition.topic for s in batch.spans})),
            },
        )
        self._open = _Open(batch.spans, trace)
        return trace

    def _end(self, code: StatusCode, reason: str | None = None) -> None:
        if self._open is not None:
            self._open.trace.set_status(Status(code, reason))
            self._open.trace.end()
            self._open = None


def links_of(messages: Iterable[Message]) -> list[Link]:
    """Return a link to each span that made events of the batch, the first so many."""
    contexts: dict[tuple[int, int], Link] = {}
    for message in messages:
        for name, value in message.headers:
            if name.lower() == _HEADER and value is not None and (context := _context(value)) is not None:
                contexts.setdefault((context.trace_id, context.span_id), Link(context))
        if len(contexts) >= MOST_LINKS:
            break
    return list(contexts.values())[:MOST_LINKS]


def _context(value: bytes) -> SpanContext | None:
    matched = _TRACEPARENT.fullmatch(value.strip())
    if matched is None:
        return None
    trace_id, span_id, flags = (int(part, 16) for part in matched.groups())
    context = SpanContext(trace_id, span_id, is_remote=True, trace_flags=TraceFlags(flags))
    return context if context.is_valid else None


def _attributes(applied: Applied) -> dict[str, int | float]:
    phases = {f"tallystream.seconds.{phase}": round(spent, 6) for phase, spent in applied.seconds.items()}
    outcomes = {f"tallystream.events.{outcome.value}": count for outcome, count in applied.outcomes.items()}
    return {
        "tallystream.batch_id": applied.batch_id or 0,
        "tallystream.movements": applied.movements,
        **outcomes,
        **phases,
    }
