"""Avro payloads as the documents that JSON would say: exactly, or not at all.

Decimals keep every digit. A double is read as the shortest decimal that means it, which is what JSON made of it would
say; a float becomes a double first, and so rarely says what its producer meant: decimals and strings are better.
"""

import io
import json
from collections.abc import Callable, Mapping
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

import fastavro

from ingest.domain.framing import Content
from ingest.domain.messages import Reason
from ingest.domain.strict_json import Number, UnreadableError, described


def payload_reader(text: str, references: Mapping[str, str]) -> Callable[[bytes], Content]:
    """Return what reads payloads written with this schema; its references come each after what it needs."""
    named: dict[str, dict[str, object]] = {}
    try:
        for reference in references.values():
            fastavro.parse_schema(json.loads(reference), named)
        schema = fastavro.parse_schema(json.loads(text), named)
    except Exception as error:  # noqa: BLE001  whatever a wrong schema makes of the parser says the same
        raise UnreadableError(Reason.NOT_OF_SCHEMA, f"it is not an Avro schema: {error}") from None

    def read(payload: bytes) -> Content:
        stream = io.BytesIO(payload)
        try:
            document = _value(fastavro.schemaless_reader(stream, schema, None))
        except UnreadableError:
            raise
        except RecursionError:
            raise UnreadableError(Reason.TOO_DEEP, "records are nested too deep") from None
        except Exception as error:  # noqa: BLE001  the same for a broken payload and the reader
            raise UnreadableError(Reason.NOT_OF_SCHEMA, f"not what it says: {type(error).__name__}") from None
        if stream.read(1):
            raise UnreadableError(Reason.NOT_OF_SCHEMA, "bytes are left over after what it says")
        if not isinstance(document, dict):
            raise UnreadableError(Reason.NOT_AN_OBJECT, f"{described(document)} where a record is expected")
        return document

    return read


def _value(value: object) -> object:
    """The value as the parser of JSON would have given it."""
    match value:
        case dict():
            return {str(key): _value(inner) for key, inner in value.items()}
        case list():
            return [_value(inner) for inner in value]
        case float() | Decimal():
            return Number(json.dumps(value) if isinstance(value, float) else format(value, "f"))
        case datetime() | date() | UUID():
            return str(value) if isinstance(value, UUID) else value.isoformat()
        case None | bool() | str() | int():
            return value
    raise UnreadableError(Reason.WRONG_TYPE, f"{type(value).__name__} is nothing that an event consists of")
