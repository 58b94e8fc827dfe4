"""Values that name a schema of a registry: a zero byte, the schema's number in 4 bytes, and the content.

No JSON text begins with a zero byte, so such a value is told from an event in plain JSON by itself. Who knows the
registry turns it into JSON text or into a document; the decoder does the rest, alike for every format.
"""

from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from ingest.domain.messages import EventType, Reason
from ingest.domain.strict_json import UnreadableError

MAGIC: Final = 0
_HEADER_LENGTH: Final = 5

Content: TypeAlias = bytes | dict[str, object]


class ReadFramed(Protocol):
    """Reads a framed value with the schema that it names."""

    def __call__(self, value: bytes) -> Content:
        """Return JSON text, or what it would say; raise `UnreadableError`, or `TransientError` when nobody answers."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The number of a schema, and what was written with it."""

    schema_id: int
    payload: bytes


def open_frame(value: bytes) -> Frame:
    """Split a framed value."""
    if len(value) < _HEADER_LENGTH:
        raise UnreadableError(Reason.UNKNOWN_SCHEMA, f"{len(value)} bytes are too few to name a schema")
    return Frame(int.from_bytes(value[1:_HEADER_LENGTH], "big"), value[_HEADER_LENGTH:])


def refuse_framed(value: bytes) -> Content:
    """Read nothing: there is no registry to ask."""
    detail = f"the value names schema {open_frame(value).schema_id}, and no schema_registry_url is set"
    raise UnreadableError(Reason.UNKNOWN_SCHEMA, detail)


def without_absent(document: dict[str, object]) -> dict[str, object]:
    """Leave out the empty list of an unpost: in many schemas a list cannot be absent."""
    if document.get("type") == EventType.UNPOST and document.get("movements") == []:
        return {key: value for key, value in document.items() if key != "movements"}
    return document
