"""The JSON Schema, read by a validator that knows nothing of us, and the decoder agree about what an event is."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from ingest.domain.messages import Event
from ingest.domain.registers import Register
from ingest.domain.schema import event_schema
from tests.support.events import EVENT, EVERYTHING, INVENTORY, Document, decoder, record

COMMON = Draft202012Validator(event_schema())
OF_INVENTORY = Draft202012Validator(event_schema(INVENTORY))

# What stands where something else is expected.
INTRUDERS: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**40,
    "",
    "x",
    "1.10",
    "-0",
    "NaN",
    [],
    {},
    [{}],
    "2026-04-18T10:00:00Z",
]

# What the decoder refuses, and a schema can tell.
BAD: list[Document] = [
    {},
    {**EVENT, "colour": "red"},
    {**EVENT, "type": "posting"},
    {**EVENT, "id": ""},
    {**EVENT, "id": 7},
    {**EVENT, "movements": []},
    {**EVENT, "movements": None},
    {**EVENT, "revision": "1"},
    {**EVENT, "type": "unpost"},
    {key: value for key, value in EVENT.items() if key != "recorder"},
]


@pytest.mark.parametrize("register", [None, INVENTORY, EVERYTHING])
def test_the_schema_is_one(register: Register | None) -> None:
    """The dialect's own schema has nothing against it."""
    Draft202012Validator.check_schema(event_schema(register))


@pytest.mark.parametrize("bad", BAD)
def test_bad_events_are_refused_by_both(bad: Document) -> None:
    """A producer that validates learns of these before it sends them."""
    assert not isinstance(decoder().decode(record(bad)), Event)
    assert not COMMON.is_valid(bad)


@given(data=st.data())
def test_what_is_decoded_is_valid(data: st.DataObject) -> None:
    """Whatever stands wherever in an event: the schema never refuses what the decoder takes."""
    event = copy.deepcopy(EVENT)
    event["type"] = data.draw(st.sampled_from(["movement", "repost", "unpost"]))
    if event["type"] == "unpost":
        del event["movements"]
    for _ in range(data.draw(st.integers(0, 2))):
        movements = event.get("movements")
        target = data.draw(st.sampled_from([event, *(movements if isinstance(movements, list) else [])][:2]))
        if isinstance(target, dict):
            key = data.draw(st.sampled_from([*sorted(target), "revision", "period", "colour"]))
            target[key] = data.draw(st.sampled_from(INTRUDERS))
            if data.draw(st.booleans()):
                del target[key]
    if isinstance(decoder().decode(record(event)), Event):
        for validator in (COMMON, OF_INVENTORY):
            assert not [error.message for error in validator.iter_errors(json.loads(json.dumps(event)))]
