"""Reads values that name a schema of a registry with Confluent's API: JSON Schema, Avro and Protobuf.

A schema is asked for once and kept: its number never means another one. What the registry does not have is refused; a
registry that does not answer is waited for, because that says nothing about the event.
"""

import importlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Final, TypeVar

from ingest.domain.framing import Content, Frame, open_frame
from ingest.domain.messages import Reason
from ingest.domain.strict_json import UnreadableError
from ingest.errors import OperatorError, SettingsError, TransientError

ReadPayload = Callable[[bytes], Content]
_K = TypeVar("_K")
_T = TypeVar("_T")

# The registry's own codes for what it does not have. A proxy before it, or a wrong path, says 404 and no such code.
_NOT_FOUND: Final = range(40400, 40500)
# Producers name what they want: no more schemas than this are kept, and an unknown one is asked for again only later.
_MOST_SCHEMAS: Final = 1000
_ASK_AGAIN_S: Final = 30.0
_MOST_REFERENCES: Final = 100


@dataclass(frozen=True, slots=True)
class Schema:
    """A schema as the registry has it, with the texts of those that it refers to by name, each after what it needs."""

    id: int
    kind: str
    text: str
    references: dict[str, str]


def schema_reader(url: str, user: str, password: str, ca_file: str, *, timeout_s: float) -> "SchemaReader":
    """Return what reads values with the schemas of the registry there; user and file may be empty."""
    config: dict[str, object] = {"url": url, "timeout": timeout_s, "max.retries": 1}
    if user:
        config["basic.auth.user.info"] = f"{user}:{password}"
    if ca_file:
        config["ssl.ca.location"] = ca_file
    return SchemaReader(SchemaRegistry(config, timeout_s).schema)


class SchemaRegistry:
    """The registry's client; nothing is asked before a value needs it."""

    def __init__(
        self, config: dict[str, object], timeout_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._parts: dict[tuple[str, int], Any] = {}
        self._timeout_s = timeout_s
        self._clock = clock
        self._module = _extra("confluent_kafka.schema_registry", "schema-registry")
        try:
            self._client = self._module.SchemaRegistryClient(config)
        except (ValueError, TypeError) as error:
            raise SettingsError(f"schema_registry_url: {error}") from None

    def schema(self, schema_id: int) -> Schema | None:
        """Return a schema with everything that it refers to; None when there is none of this number."""
        try:
            found = self._client.get_schema(schema_id)
            references: dict[str, str] = {}
            self._collect(found.references, references, self._clock() + self._timeout_s)
        except self._module.SchemaRegistryError as error:
            if error.error_code in _NOT_FOUND:
                return None
            raise TransientError(f"the schema registry refuses to show schema {schema_id}: {error}") from error
        except (UnreadableError, TransientError):
            raise
        except Exception as error:
            # The client lets errors of its HTTP library through, which is another one in every other release.
            raise TransientError(f"the schema registry does not answer: {type(error).__name__}: {error}") from error
        return Schema(schema_id, found.schema_type or "AVRO", found.schema_str, references)

    def _collect(self, wanted: list[object] | None, found: dict[str, str], deadline: float) -> None:
        """Get what is referred to, and keep it: a version never changes, and the next attempt is through sooner."""
        for reference in wanted or ():
            name, subject, version = (getattr(reference, field) for field in ("name", "subject", "version"))
            if name in found:
                continue
            if len(found) >= _MOST_REFERENCES:
                raise UnreadableError(Reason.NOT_OF_SCHEMA, f"its schema refers to more than {_MOST_REFERENCES} others")
            schema = self._parts.get((subject, version))
            if schema is None:
                if self._clock() > deadline:
                    message = f"the schema registry takes too long: {len(found)} of a schema's references came in time"
                    raise TransientError(message)
                schema = self._client.get_version(subject, version).schema
                _keep(self._parts, (subject, version), schema)
            self._collect(schema.references, found, deadline)
            found[name] = schema.schema_str


class SchemaReader:
    """Reads framed values; may be asked by several threads."""

    def __init__(
        self,
        lookup: Callable[[int], Schema | None],
        clock: Callable[[], float] = time.monotonic,
        make_reader: Callable[[Schema], ReadPayload] | None = None,
    ) -> None:
        self._lookup = lookup
        self._make_reader = make_reader or reader_of
        self._clock = clock
        self._known: dict[int, ReadPayload] = {}
        self._unknown: dict[int, float] = {}

    def __call__(self, value: bytes) -> Content:
        """Read a value with the schema that it names."""
        frame = open_frame(value)
        read = self._known.get(frame.schema_id) or self._reader(frame)
        try:
            return read(frame.payload)
        except UnreadableError as error:
            raise UnreadableError(error.reason, f"schema {frame.schema_id}: {error.detail}", error.path) from None

    def _reader(self, frame: Frame) -> ReadPayload:
        asked_at = self._unknown.get(frame.schema_id)
        schema = None
        if asked_at is None or self._clock() - asked_at >= _ASK_AGAIN_S:
            schema = self._lookup(frame.schema_id)
        if schema is None:
            _keep(self._unknown, frame.schema_id, self._clock())
            raise UnreadableError(Reason.UNKNOWN_SCHEMA, f"schema {frame.schema_id} is not in the registry")
        try:
            read = self._make_reader(schema)
        except UnreadableError as error:
            # What is wrong with a schema stays wrong: it is not compiled again for each event that names it.
            read = partial(_refuse, error)
        _keep(self._known, schema.id, read)
        return read


def reader_of(schema: Schema) -> ReadPayload:
    """Return what reads payloads written with this schema."""
    if schema.kind == "JSON":
        return _read_json
    if schema.kind == "AVRO":
        _extra("fastavro", "avro")
        return _reader("avro", schema)
    if schema.kind == "PROTOBUF":
        _extra("google.protobuf", "protobuf")
        _extra("grpc_tools", "protobuf")
        return _reader("protobuf", schema)
    raise UnreadableError(Reason.NOT_OF_SCHEMA, f"schema {schema.id} is of an unknown kind")


def _reader(format_name: str, schema: Schema) -> ReadPayload:
    # Only who reads such values has the libraries of their formats.
    module = importlib.import_module(f"ingest.kafka.{format_name}")
    read: ReadPayload = module.payload_reader(schema.text, schema.references)
    return read


def _refuse(error: UnreadableError, _: bytes) -> Content:
    """Say of each payload what is wrong with its schema."""
    raise UnreadableError(error.reason, error.detail, error.path)


def _read_json(payload: bytes) -> Content:
    """Give the text on: the contract that decides is the register's declaration, whatever a schema allows."""
    return payload


def _extra(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise OperatorError(
            f"{module} is not installed; values with a schema need: pip install 'tallystream[{extra}]'"
        ) from None


def _keep(kept: dict[_K, _T], key: _K, value: _T) -> None:
    """Remember, and forget the oldest beyond the bound."""
    kept[key] = value
    # Of a copy: the other thread may be here as well.
    for oldest in list(kept)[:-_MOST_SCHEMAS]:
        kept.pop(oldest, None)
