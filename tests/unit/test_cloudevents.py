"""CloudEvents: the same event in three spellings, and what is wrong with others."""

import json
from collections.abc import Mapping

import pytest
from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from msgspec.structs import replace

from ingest.domain.messages import Event, Message, Refusal
from tests.support.events import EVENT, Document, accepted, decoder, event, record, refused
from tests.support.formats import ATTRIBUTES, DATA


def in_headers(attributes: Mapping[str, str | bytes | None], data: Document) -> Message:
    """A record in binary mode."""
    headers = tuple((f"ce_{k}", v.encode() if isinstance(v, str) else v) for k, v in attributes.items())
    return record(data, headers=headers)


def around(attributes: Document, data: object = DATA) -> Message:
    """A record in structured mode."""
    return record({**attributes, "data": data})


def same(one: Event, other: Event) -> bool:
    """Whether the second would be recognised as the first, come again."""
    return replace(one, message=other.message) == other


@pytest.mark.parametrize("data", [DATA, EVENT], ids=["the rest", "all of it"])
@pytest.mark.parametrize("event_type", ["movement", "com.example.shop.movement"])
def test_modes(data: Document, event_type: str) -> None:
    """Both modes, as the SDK makes them, say what plain JSON says; data may repeat the attributes."""
    made = CloudEvent({**ATTRIBUTES, "type": event_type, "datacontenttype": "application/json"}, data)
    plain = accepted(decoder().decode(record(EVENT)))
    for bound in (to_binary(made, JSONFormat()), to_structured(made, JSONFormat())):
        message = record(bytes(bound.value), headers=tuple(bound.headers.items()))
        assert same(plain, accepted(decoder().decode(message)))


def test_subjects_of_integers() -> None:
    """A subject is text; the recorder that it names is what its register says."""
    plain = accepted(decoder(recorder_type="int").decode(record(event(recorder=17))))
    for data in (DATA, {**DATA, "recorder": 17}):
        found = decoder(recorder_type="int").decode(in_headers({**ATTRIBUTES, "subject": "17"}, data))
        assert same(plain, accepted(found))
    assert refused(decoder(recorder_type="int").decode(in_headers(ATTRIBUTES, DATA))) == "wrong_type recorder"


def test_recorder_without_a_subject() -> None:
    """Where no attribute says it, the data do."""
    attributes = {name: value for name, value in ATTRIBUTES.items() if name != "subject"}
    assert accepted(decoder().decode(in_headers(attributes, {**DATA, "recorder": "r"}))).recorder == "r"
    assert refused(decoder().decode(in_headers(attributes, DATA))) == "missing_key recorder"


def test_other_headers_are_not_read() -> None:
    """Traces and the like say nothing about the event."""
    message = record(EVENT, headers=(("traceparent", b"\xff"), ("ce_id", b"another")))
    assert isinstance(decoder().decode(message), Event)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (in_headers({**ATTRIBUTES, "specversion": "0.3"}, DATA), "invalid_cloudevent specversion"),
        (in_headers({**ATTRIBUTES, "source": ""}, DATA), "invalid_cloudevent source"),
        (in_headers({**ATTRIBUTES, "id": None}, DATA), "invalid_cloudevent id"),
        (in_headers({**ATTRIBUTES, "id": b"\xff"}, DATA), "not_utf8"),
        (in_headers({**ATTRIBUTES, "type": "com.example.sold"}, DATA), "unknown_type type"),
        (in_headers(ATTRIBUTES, {**DATA, "id": "e-2"}), "invalid_cloudevent id"),
        (in_headers(ATTRIBUTES, {**DATA, "recorder": "receipt:2"}), "invalid_cloudevent recorder"),
        (in_headers(ATTRIBUTES, {**EVENT, "id": "e-2"}), "invalid_cloudevent id"),
        (in_headers(ATTRIBUTES, {**DATA, "priority": 1}), "unknown_key priority"),
        (in_headers({**ATTRIBUTES, "id": "a\0b"}, DATA), "invalid_text id"),
        (record(DATA, headers=(("ce_specversion", b"1.0"),) * 2), "invalid_cloudevent"),
        (around({**ATTRIBUTES, "specversion": 1.0}), "invalid_cloudevent specversion"),
        (around({**ATTRIBUTES, "id": 5}), "invalid_cloudevent id"),
        (around(ATTRIBUTES, json.dumps(DATA)), "not_an_object data"),
        (around({**ATTRIBUTES, "data_base64": "e30="}), "invalid_cloudevent data_base64"),
        (around({**ATTRIBUTES, "type": "unpost"}, None), "not_an_object data"),
    ],
)
def test_refusals(message: Message, expected: str) -> None:
    """What is not a CloudEvent of version 1.0, or contradicts itself, is a dead letter with its reason."""
    result = decoder().decode(message)
    assert isinstance(result, Refusal)
    assert refused(result) == expected
