"""The JSON Schema says what the decoder does, as far as a schema can; the file in the repository is current."""

import json

import pytest

from ingest import resources
from ingest.domain.messages import Limits, Reason
from ingest.domain.registers import Register
from ingest.domain.schema import event_schema, render
from tests.support.events import EVERYTHING, INVENTORY


def test_generated_file_is_current() -> None:
    """`make generate` writes it anew."""
    written = (resources.schema() / "messages" / "event.schema.json").read_text("utf-8")
    assert written == render(event_schema())


def test_three_types_of_event() -> None:
    """One model per type, told apart by the constant `type`; unknown keys are refused."""
    schema = event_schema()
    models = [schema["$defs"][each["$ref"].rpartition("/")[2]] for each in schema["oneOf"]]
    assert [model["properties"]["type"]["const"] for model in models] == ["movement", "repost", "unpost"]
    for model in models:
        assert model["additionalProperties"] is False
        assert {"id", "type", "register", "recorder"} <= set(model["required"])
        assert all("description" in model["properties"][key] for key in ("id", "register", "recorder", "period"))


@pytest.mark.parametrize("register", [INVENTORY, EVERYTHING])
def test_schema_of_a_register(register: Register) -> None:
    """Its columns are required, and no others are allowed."""
    schema = event_schema(register, Limits(max_text_length=50))
    movement = schema["$defs"]["Movement"]
    columns = [each.name for each in register.dimensions] + [each.name for each in register.resources]
    assert movement["required"] == columns
    assert list(movement["properties"]) == ["period", *columns]
    assert movement["additionalProperties"] is False
    assert all(
        model["properties"]["register"]["const"] == register.name for model in list(schema["$defs"].values())[:3]
    )
    json.dumps(schema)


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("d_smallint", {"type": "integer", "minimum": -32768, "maximum": 32767}),
        ("d_text", {"type": "string", "maxLength": 50}),
        ("d_varchar", {"type": "string", "maxLength": 5}),
        ("d_uuid", {"type": "string", "format": "uuid"}),
        ("d_boolean", {"type": "boolean"}),
        ("d_timestamptz", {"type": "string", "format": "date-time"}),
    ],
)
def test_dimension(column: str, expected: object) -> None:
    """A dimension has its type, or null."""
    movement = event_schema(EVERYTHING, Limits(max_text_length=50))["$defs"]["Movement"]
    assert movement["properties"][column]["anyOf"] == [expected, {"type": "null"}]


def test_every_reason_is_described() -> None:
    """The reference of reason codes is generated from them."""
    for reason in Reason:
        assert reason.description.endswith(".")
        assert reason == reason.name.lower()
