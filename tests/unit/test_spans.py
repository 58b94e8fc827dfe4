"""One span for each batch, with links to where its events came from; nothing about a batch changes by it."""

from collections.abc import Callable, Iterator, Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from ingest.domain.applying import Registry
from ingest.domain.batches import Batch, Span
from ingest.domain.messages import Message
from ingest.domain.positions import Claim
from ingest.errors import FencedError, OperatorError, RegistryChangedError, TransientError
from ingest.observability.tracing import MOST_LINKS, TracedStore, links_of
from tests.support.events import INVENTORY
from tests.support.fakes import FakeStore, decode, fails, loses_reply, partition

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
REGISTRY = Registry(1, {"sales": INVENTORY})


class Traced:
    """A fake store with a traced one before it, and the spans that ended."""

    def __init__(self) -> None:
        self.below = FakeStore()
        self.below.positions[partition()] = (0, 1)
        self._spans = InMemorySpanExporter()
        self._provider = TracerProvider()
        self._provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.store = TracedStore(self.below, self._provider.get_tracer("test"))

    @property
    def spans(self) -> Sequence[ReadableSpan]:
        return self._spans.get_finished_spans()

    def close(self) -> None:
        self._provider.shutdown()


@pytest.fixture
def traced() -> Iterator[Traced]:
    """A store whose partition is claimed."""
    made = Traced()
    yield made
    made.close()


def message(offset: int, *headers: tuple[str, bytes | None]) -> Message:
    """A record with these headers."""
    return Message("t", 0, offset, 1, None, b"sales", headers)


def batch(first: int, *messages: Message) -> Batch:
    """A batch of these records, or of one."""
    found = messages or (message(first),)
    items = tuple(decode(REGISTRY, each) for each in found)
    return Batch(items, (Span(Claim(partition(), 0, first, 1), first + len(found), 1),), 1)


def parent(number: int) -> tuple[str, bytes]:
    """A header as a producer with tracing writes it."""
    return "traceparent", f"00-{TRACE}-{number:016x}-01".encode()


def test_a_batch_is_one_span(traced: Traced) -> None:
    """It has what the batch did, and is of the kind that takes messages."""
    applied = traced.store.apply(batch(0, message(0), message(1)), REGISTRY)
    (span,) = traced.spans
    assert (span.name, span.kind, span.status.status_code) == ("apply batch", SpanKind.CONSUMER, StatusCode.OK)
    told = dict(span.attributes or {})
    assert told["messaging.batch.message_count"] == 2
    assert told["messaging.destination.name"] == "t"
    assert (told["tallystream.batch_id"], told["tallystream.events.applied"]) == (applied.batch_id, 2)
    traced.store.apply(batch(2), REGISTRY)
    assert len(traced.spans) == 2


def test_events_are_linked(traced: Traced) -> None:
    """Each span that made events of the batch is linked once, whatever else is in the headers."""
    traced.store.apply(
        batch(0, message(0, ("x", b"y"), parent(1)), message(1, parent(1)), message(2, parent(2)), message(3)), REGISTRY
    )
    (span,) = traced.spans
    assert [f"{link.context.trace_id:032x}" for link in span.links] == [TRACE, TRACE]
    assert [link.context.span_id for link in span.links] == [1, 2]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"nonsense",
        b"00-" + b"0" * 32 + b"-00f067aa0ba902b7-01",
        b"00-4bf92f3577b34da6a3ce929d0e0e4736-" + b"0" * 16 + b"-01",
        b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        b"\xff" * 55,
    ],
)
def test_a_header_that_is_none_is_no_link(value: bytes | None) -> None:
    """Whatever producers send, nothing is raised."""
    assert links_of([message(0, ("traceparent", value))]) == []


def test_links_are_bounded() -> None:
    """A large batch has a small span; a later version of the header may be longer."""
    assert len(links_of(message(n, parent(n + 1)) for n in range(10 * MOST_LINKS))) == MOST_LINKS
    assert len(links_of([message(0, ("Traceparent", b"01-" + TRACE.encode() + b"-00f067aa0ba902b7-01-more"))])) == 1


def test_attempts_are_events_of_one_span(traced: Traced) -> None:
    """A batch that fails for a while, and is decoded anew, is still one batch; what servers say stays out of it."""
    traced.below.trouble.extend([fails(TransientError("secret")), fails(RegistryChangedError("secret"))])
    with pytest.raises(TransientError):
        traced.store.apply(batch(0), REGISTRY)
    with pytest.raises(RegistryChangedError):
        traced.store.apply(batch(0), REGISTRY)
    traced.store.apply(batch(0), REGISTRY)
    (span,) = traced.spans
    assert [dict(event.attributes or {})["error"] for event in span.events] == [
        "TransientError",
        "RegistryChangedError",
    ]
    assert "secret" not in span.to_json()


def test_a_lost_reply_ends_the_span_when_the_positions_tell(traced: Traced) -> None:
    """The batch was committed, and so says its span."""
    traced.below.trouble.append(loses_reply(traced.below))
    with pytest.raises(TransientError):
        traced.store.apply(batch(0), REGISTRY)
    assert len(traced.spans) == 0
    traced.store.standing(batch(0))
    assert [span.status.status_code for span in traced.spans] == [StatusCode.OK]


@pytest.mark.parametrize("error", [FencedError("secret"), OperatorError("secret"), RuntimeError("secret")])
def test_what_ends_a_batch_ends_its_span(traced: Traced, error: Exception) -> None:
    """With the type of the error alone."""
    traced.below.trouble.append(fails(error))
    with pytest.raises(type(error)):
        traced.store.apply(batch(0), REGISTRY)
    (span,) = traced.spans
    assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, type(error).__name__)
    assert "secret" not in span.to_json()


def _goes_on(traced: Traced) -> None:
    traced.store.apply(batch(0, message(0), message(1)), REGISTRY)


def _closes(traced: Traced) -> None:
    traced.store.close()


def _is_fenced(traced: Traced) -> None:
    traced.below.steal()
    traced.store.standing(batch(0))


@pytest.mark.parametrize("then", [_goes_on, _closes, _is_fenced])
def test_a_batch_that_is_dropped_ends_too(traced: Traced, then: Callable[[Traced], None]) -> None:
    """When another batch comes in its place, when the store is closed, or when others own its partitions."""
    traced.below.trouble.append(fails(TransientError("down")))
    with pytest.raises(TransientError):
        traced.store.apply(batch(0), REGISTRY)
    then(traced)
    assert traced.spans[0].status.status_code is StatusCode.ERROR


def test_everything_else_is_passed_on(traced: Traced) -> None:
    """The store below is asked, and its answer is the answer."""
    assert traced.store.registry() == traced.below.registry()
    assert traced.store.claim([]) == traced.below.claim([])
    assert traced.store.holds([]) == traced.below.holds([])
    traced.store.close()
    assert traced.below.closed
