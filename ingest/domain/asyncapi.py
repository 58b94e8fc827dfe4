"""The topics and their events as an AsyncAPI 3 document, from the declarations: for producers and their tools.

https://www.asyncapi.com/docs/reference/specification/v3.0.0; every topic may carry the events of every register.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from ingest.domain.messages import Limits
from ingest.domain.registers import Register
from ingest.domain.schema import JsonSchema, event_schema

_VERSION: Final = "3.0.0"
_BINDING_VERSION: Final = "0.5.0"
_LOCAL: Final = "#/$defs/"

Document = dict[str, Any]


def asyncapi(
    registers: Sequence[Register], topics: Iterable[str], brokers: Iterable[str], version: str, limits: Limits
) -> Document:
    """The document: `brokers` are host:port, `version` is the program's."""
    schemas: Document = {}
    messages: Document = {}
    for register in registers:
        schema = event_schema(register, limits)
        schema.pop("$schema")
        inner = schema.pop("$defs")
        recorder = inner["MovementEvent"]["properties"]["recorder"]
        schemas |= {f"{register.name}.{name}": _moved(part, register.name) for name, part in inner.items()}
        schemas[register.name] = _moved(schema, register.name)
        messages[register.name] = _message(register, recorder)
    references = {name: {"$ref": f"#/components/messages/{name}"} for name in messages}
    channels = {topic: {"address": topic, "messages": references} for topic in topics}
    return {
        "asyncapi": _VERSION,
        "info": {
            "title": "Tallystream",
            "version": version,
            "description": "Events that Tallystream applies to accumulation registers in PostgreSQL.",
        },
        "defaultContentType": "application/json",
        "servers": {f"broker{n}": {"host": host, "protocol": "kafka"} for n, host in enumerate(brokers, 1)},
        "channels": channels,
        "operations": {f"apply-{topic}": _operation(topic, messages) for topic in channels},
        "components": {"messages": messages, "schemas": schemas},
    }


def _message(register: Register, recorder: JsonSchema) -> Document:
    key = {name: part for name, part in recorder.items() if name != "description"}
    return {
        "name": register.name,
        "title": f"An event of register {register.name}",
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{register.name}"},
        "bindings": {"kafka": {"key": key | {"description": "The recorder."}, "bindingVersion": _BINDING_VERSION}},
    }


def _operation(topic: str, messages: Iterable[str]) -> Document:
    return {
        "action": "receive",
        "summary": "Applies each event to its register, exactly once.",
        "channel": {"$ref": f"#/channels/{topic}"},
        "messages": [{"$ref": f"#/channels/{topic}/messages/{name}"} for name in messages],
    }


def _moved(schema: Any, register: str) -> Any:  # noqa: ANN401  any part of a schema
    """The same with references to where this document has the parts."""
    if isinstance(schema, dict):
        return {name: _moved(part, register) for name, part in schema.items()}
    if isinstance(schema, list):
        return [_moved(part, register) for part in schema]
    if isinstance(schema, str) and schema.startswith(_LOCAL):
        return f"#/components/schemas/{register}.{schema.removeprefix(_LOCAL)}"
    return schema
