"""Avro payloads as the documents that JSON would say: exactly, or not at all.

Decimals keep every digit; one with more than its schema allows is refused, where fastavro would round it. A double is
read as the shortest decimal that means it, which is what JSON made of it would say; a float becomes a double first, and
so rarely says what its producer meant: decimals and strings are better.
"""

import io
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import fastavro
import fastavro.read

from ingest.domain.framing import Content
from ingest.domain.messages import Reason
from ingest.domain.strict_json import Number, UnreadableError, described

_EXACT: Final = "exact-decimal"
_MOST_DECIMAL_BYTES: Final = 512
# An event is some fields and a list of lines. The reader calls itself in C for each level of a value and has no limit
# of its own: a schema that refers to itself would let a payload decide how deep, down to the end of the stack.
_MOST_LEVELS: Final = 32
_MOST_PARTS: Final = 1000


def payload_reader(text: str, references: Mapping[str, str]) -> Callable[[bytes], Content]:
    """Return what reads payloads written with this schema; its references come each after what it needs."""
    named: dict[str, dict[str, object]] = {}
    try:
        for reference in references.values():
            fastavro.parse_schema(_with_exact_decimals(json.loads(reference)), named)
        schema = fastavro.parse_schema(_with_exact_decimals(json.loads(text)), named)
        _least_bytes(schema, named, iter(range(_MOST_PARTS)), _MOST_LEVELS)
    except UnreadableError:
        raise
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


def _with_exact_decimals(schema: Any) -> Any:  # noqa: ANN401  any part of a schema
    """The same with decimals of our own, where they are declared as they must be; of others the parser complains."""
    if isinstance(schema, list):
        return [_with_exact_decimals(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {name: _with_exact_decimals(part) for name, part in schema.items()}
    precision, scale = schema.get("precision"), schema.get("scale", 0)
    if schema.get("logicalType") == "decimal" and type(precision) is type(scale) is int and 0 <= scale <= precision:
        inner["logicalType"] = _EXACT
    return inner


def _exact_decimal(data: bytes, schema: Mapping[str, Any] | None, _: object = None) -> Decimal:
    """The number in these bytes."""
    if len(data) > _MOST_DECIMAL_BYTES:
        raise UnreadableError(Reason.NOT_OF_SCHEMA, f"a decimal of {len(data)} bytes")
    unscaled = int.from_bytes(data, "big", signed=True)
    declared = schema or {}
    if abs(unscaled) >= 10 ** declared["precision"]:
        detail = f"a decimal has more digits than the {declared['precision']} that its schema allows"
        raise UnreadableError(Reason.NOT_OF_SCHEMA, detail)
    return Decimal(f"{unscaled}E-{declared.get('scale', 0)}")


# The library's way to add logical types; nobody else uses this name.
fastavro.read.LOGICAL_READERS.update({f"{kind}-{_EXACT}": _exact_decimal for kind in ("bytes", "fixed")})


def _least_bytes(schema: Any, named: Mapping[str, Any], parts: Iterator[int], levels: int) -> int:  # noqa: ANN401
    """How few bytes a value may have; refuses schemas by which few bytes could become very many or very deep values."""
    if next(parts, None) is None or levels == 0:
        detail = f"it refers to itself, or has more than {_MOST_LEVELS} levels or {_MOST_PARTS} parts"
        raise UnreadableError(Reason.NOT_OF_SCHEMA, detail)
    if isinstance(schema, str):
        return _least_bytes(named[schema], named, parts, levels) if schema in named else int(schema != "null")
    if isinstance(schema, list):
        for part in schema:
            _least_bytes(part, named, parts, levels - 1)
        return 1
    match schema["type"]:
        case "record" | "error":
            return sum(_least_bytes(field["type"], named, parts, levels - 1) for field in schema["fields"])
        case "array":
            if not _least_bytes(schema["items"], named, parts, levels - 1):
                raise UnreadableError(Reason.NOT_OF_SCHEMA, "it has a list of what takes no bytes")
        case "map":
            _least_bytes(schema["values"], named, parts, levels - 1)
        case "fixed":
            return int(schema["size"])
        case kind:
            return _least_bytes(kind, named, parts, levels - 1) if kind != "enum" else 1
    return 1


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
