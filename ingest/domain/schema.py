"""The event contract as JSON Schema, from the models that check it: for producers, never used to decode.

`python -m ingest.domain.schema` prints the schema that all registers share; `event_schema` also makes the one of a
single register, with its columns. A schema cannot say everything: the decoder has the last word.
"""

import json
import sys
from typing import Annotated, Any, Final, TypeAlias

from pydantic import Field, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from ingest.domain.decimals import INTEGER_RANGES
from ingest.domain.envelope import MovementEvent, RepostEvent, UnpostEvent
from ingest.domain.messages import Limits
from ingest.domain.registers import Dimension, Register, Resource, varchar_length

JsonSchema: TypeAlias = dict[str, Any]

_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_EVENT: Final[TypeAdapter[object]] = TypeAdapter(
    Annotated[MovementEvent | RepostEvent | UnpostEvent, Field(discriminator="type")]
)
_DECIMAL: Final = {
    "anyOf": [
        {"type": "number"},
        {"type": "string", "pattern": r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"},
    ]
}
_PERIOD: Final = {
    "type": ["string", "null"],
    "format": "date-time",
    "description": "This movement's own accounting time, in place of the event's.",
}
_STRINGS_AND_BOOLEANS: Final[dict[str, JsonSchema]] = {
    "uuid": {"type": "string", "format": "uuid"},
    "date": {"type": "string", "format": "date"},
    "boolean": {"type": "boolean"},
    "timestamptz": {"type": "string", "format": "date-time"},
}


class _WithoutTitles(GenerateJsonSchema):
    """Titles would only repeat the names of keys."""

    def field_title_should_be_set(self, schema: object) -> bool:  # noqa: ARG002  the base class passes it
        return False


def event_schema(register: Register | None = None, limits: Limits | None = None) -> JsonSchema:
    """The schema of one register's events, or of every register's where none is given."""
    bounds = limits or Limits()
    schema = _EVENT.json_schema(schema_generator=_WithoutTitles)
    schema.pop("discriminator", None)  # OpenAPI's word, not JSON Schema's
    for name, model in schema["$defs"].items():
        model["title"] = name
        properties = model["properties"]
        properties["id"] |= {"minLength": 1, "maxLength": bounds.max_id_length}
        properties["recorder"] = _recorder(register, bounds) | _described(properties["recorder"])
        if properties["movements"].get("type") == "array":
            properties["movements"] |= {"items": {"$ref": "#/$defs/Movement"}, "maxItems": bounds.max_movements}
        if register is not None:
            properties["register"]["const"] = register.name
    schema["$defs"]["Movement"] = _movement(register, bounds)
    subject = f"An event of register {register.name}" if register else "An event"
    return {"$schema": _DIALECT, "title": subject, **schema}


def render(schema: JsonSchema) -> str:
    """As it stands in a file."""
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _movement(register: Register | None, limits: Limits) -> JsonSchema:
    properties: JsonSchema = {"period": _PERIOD}
    movement: JsonSchema = {
        "title": "Movement",
        "description": "One row: every dimension and every resource of the register. Unknown keys are refused.",
        "type": "object",
        "properties": properties,
    }
    if register is None:
        return movement | {"additionalProperties": {"type": ["string", "number", "boolean", "null"]}}
    properties |= {dimension.name: _dimension(dimension, limits) for dimension in register.dimensions}
    properties |= {resource.name: _resource(resource) for resource in register.resources}
    required = [dimension.name for dimension in register.dimensions]
    required += [resource.name for resource in register.resources]
    return movement | {"properties": properties, "required": required, "additionalProperties": False}


def _recorder(register: Register | None, limits: Limits) -> JsonSchema:
    integer = {"type": "integer"}
    text = {"type": "string", "minLength": 1, "maxLength": limits.max_recorder_length}
    if register is None:
        return {"anyOf": [text, integer]}
    if register.recorder_type in INTEGER_RANGES:
        return _integer(register.recorder_type)
    return _STRINGS_AND_BOOLEANS.get(register.recorder_type, text)


def _dimension(dimension: Dimension, limits: Limits) -> JsonSchema:
    return {
        "anyOf": [_dimension_value(dimension, limits), {"type": "null"}],
        "description": f"Dimension, {dimension.type}.",
    }


def _dimension_value(dimension: Dimension, limits: Limits) -> JsonSchema:
    if dimension.type in INTEGER_RANGES:
        return _integer(dimension.type)
    if dimension.type == "text" or varchar_length(dimension.type):
        declared = varchar_length(dimension.type) or limits.max_text_length
        return {"type": "string", "maxLength": min(declared, limits.max_text_length)}
    return _STRINGS_AND_BOOLEANS.get(dimension.type, _DECIMAL)


def _resource(resource: Resource) -> JsonSchema:
    return _DECIMAL | {"description": f"Resource, {resource.type}: a number, or a string that looks like one."}


def _integer(column_type: str) -> JsonSchema:
    low, high = INTEGER_RANGES[column_type]
    return {"type": "integer", "minimum": low, "maximum": high}


def _described(schema: JsonSchema) -> JsonSchema:
    return {"description": schema["description"]}


if __name__ == "__main__":
    sys.stdout.write(render(event_schema()))
