"""Protobuf payloads as the documents that JSON would say: exactly, or not at all.

Registries hand out the text of a schema, or its descriptor in base64. Text is compiled once, by protoc in a process and
a folder of its own. A field that can tell whether it was set says null when it was not; another one has its default.
`google.protobuf.Timestamp` is a time, `google.type.Decimal` and the wrappers are the values in them.
"""

import base64
import binascii
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, TypeAlias

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, FieldDescriptor, FileDescriptor
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from google.type import decimal_pb2  # type: ignore[import-untyped]

from ingest.domain.framing import Content
from ingest.domain.messages import Reason
from ingest.domain.strict_json import Number, UnreadableError
from ingest.errors import TransientError

if TYPE_CHECKING:
    from google._upb import _message as upb

# The descriptors of messages that were generated are of another class than those of messages that were not.
_Field: TypeAlias = "FieldDescriptor | upb.FieldDescriptor"

_SCHEMA: Final = "event.proto"
# Where google/type/*.proto are; protoc brings google/protobuf/*.proto itself.
_COMMON: Final = Path(decimal_pb2.__file__).parents[2]
# Of folders and a file .proto; no folder is called so.
_FILE_NAME: Final = re.compile(r"(?:(?![^/]*\.proto/)[\w-][\w.-]{0,99}/){0,20}[\w.-]{1,99}\.proto", re.ASCII)
_COMPILE_TIMEOUT_S: Final = 30
_MAX_INDEXES: Final = 32
_VARINT_BITS: Final = 63
_REALS: Final = {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}
_WRAPPERS: Final = frozenset(
    f"google.protobuf.{name}Value"
    for name in ("Int32", "Int64", "UInt32", "UInt64", "String", "Bool", "Double", "Float")
) | {"google.type.Decimal"}


def payload_reader(text: str, references: Mapping[str, str]) -> Callable[[bytes], Content]:
    """Return what reads payloads written with this schema."""
    file = _described(text, references)

    def read(payload: bytes) -> Content:
        indexes, body = _message_indexes(payload)
        message = message_factory.GetMessageClass(_message_type(file, indexes))()
        try:
            message.ParseFromString(body)
            _check_known(message)
            return _document(message)
        except UnreadableError:
            raise
        except RecursionError:
            raise UnreadableError(Reason.TOO_DEEP, "messages are nested too deep") from None
        except Exception as error:  # noqa: BLE001  the same for a broken payload and the library
            raise UnreadableError(Reason.NOT_OF_SCHEMA, f"not what it says: {type(error).__name__}") from None

    return read


def _described(text: str, references: Mapping[str, str]) -> FileDescriptor:
    pool = descriptor_pool.DescriptorPool()
    try:
        for proto in _file_protos({**references, _SCHEMA: text}):
            pool.Add(proto)
        return pool.FindFileByName(proto.name)
    except (TypeError, KeyError, ValueError) as error:
        raise UnreadableError(Reason.NOT_OF_SCHEMA, f"its descriptors do not fit together: {error}") from None
    except OSError as error:
        raise TransientError(f"a Protobuf schema cannot be compiled here: {error}") from error


def _file_protos(sources: Mapping[str, str]) -> list[descriptor_pb2.FileDescriptorProto]:
    """The descriptors of these files, each after what it imports; the schema itself is the last."""
    serialized = {name: proto for name, text in sources.items() if (proto := _deserialized(text)) is not None}
    if not serialized:
        return list(_compiled(sources).file)
    if len(serialized) < len(sources):
        raise UnreadableError(Reason.NOT_OF_SCHEMA, "some of its files are text and some are descriptors")
    known = _compiled({_SCHEMA: _imports(serialized)}).file[:-1]
    return [*known, *serialized.values()]


def _imports(protos: Mapping[str, descriptor_pb2.FileDescriptorProto]) -> str:
    """A file that imports what these take from Google's own."""
    wanted = sorted({name for proto in protos.values() for name in proto.dependency if name.startswith("google/")})
    return 'syntax = "proto3";\n' + "".join(f'import "{name}";\n' for name in wanted)


def _deserialized(text: str) -> descriptor_pb2.FileDescriptorProto | None:
    try:
        return descriptor_pb2.FileDescriptorProto.FromString(base64.b64decode(text, validate=True))
    except (binascii.Error, ValueError, DecodeError):
        return None


def _compiled(sources: Mapping[str, str]) -> descriptor_pb2.FileDescriptorSet:
    with tempfile.TemporaryDirectory() as folder:
        for name, text in sources.items():
            path = PurePosixPath(name)
            if path.is_absolute() or ".." in path.parts or not _FILE_NAME.fullmatch(name):
                raise UnreadableError(Reason.NOT_OF_SCHEMA, "it refers to a file outside its folder, or oddly named")
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        output = Path(folder, "descriptors")
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{_COMMON}"]
        command += ["--include_imports", f"--descriptor_set_out={output}", _SCHEMA]
        try:
            done = subprocess.run(  # noqa: S603  nothing in it is from outside but the files
                command,
                check=False,
                capture_output=True,
                text=True,
                timeout=_COMPILE_TIMEOUT_S,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise TransientError("a Protobuf schema takes too long to compile") from None
        if done.returncode:
            raise UnreadableError(Reason.NOT_OF_SCHEMA, f"protoc refuses it: {done.stderr.strip()[:200]}")
        return descriptor_pb2.FileDescriptorSet.FromString(output.read_bytes())


def _message_indexes(payload: bytes) -> tuple[list[int], bytes]:
    """Which message of the file it is, and the bytes of it."""
    count, place = _varint(payload, 0)
    if count == 0:
        return [0], payload[place:]
    if not 0 < count <= _MAX_INDEXES:
        raise UnreadableError(Reason.NOT_OF_SCHEMA, "it names no message of its file")
    indexes = []
    for _ in range(count):
        index, place = _varint(payload, place)
        indexes.append(index)
    return indexes, payload[place:]


def _varint(payload: bytes, place: int) -> tuple[int, int]:
    """A zigzag number, and where it ends."""
    number = shift = 0
    while place < len(payload) and shift <= _VARINT_BITS:
        byte = payload[place]
        number |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:  # noqa: PLR2004  the last one
            return (number >> 1) ^ -(number & 1), place
    raise UnreadableError(Reason.NOT_OF_SCHEMA, "it names no message of its file")


def _message_type(file: FileDescriptor, indexes: list[int]) -> Descriptor:
    types = list(file.message_types_by_name.values())
    for depth, index in enumerate(indexes):
        if not 0 <= index < len(types):
            raise UnreadableError(Reason.NOT_OF_SCHEMA, "it names no message of its file")
        found = types[index]
        if depth < len(indexes) - 1:
            types = list(found.nested_types)
    return found


def _document(message: Message) -> dict[str, object]:
    return {field.name: _field(message, field) for field in message.DESCRIPTOR.fields}


def _check_known(message: Message) -> None:
    """The parser keeps aside what the schema does not have, or has of another type; here that is part of the event."""
    if len(UnknownFieldSet(message)):
        raise UnreadableError(Reason.NOT_OF_SCHEMA, "it has fields that its schema does not have, or has otherwise")


def _field(message: Message, field: _Field) -> object:
    if field.is_repeated:
        entries = getattr(message, field.name)
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            raise UnreadableError(Reason.WRONG_TYPE, "a map is nothing that an event consists of", field.name)
        return [_value(entry, field) for entry in entries]
    if field.has_presence and not message.HasField(field.name):
        return None
    return _value(getattr(message, field.name), field)


def _value(value: object, field: _Field) -> object:
    if isinstance(value, Message):
        _check_known(value)
        name = value.DESCRIPTOR.full_name
        if name == "google.protobuf.Timestamp":
            return value.ToJsonString()  # type: ignore[attr-defined]  # of the well-known type
        if name in _WRAPPERS:
            return _field(value, value.DESCRIPTOR.fields_by_name["value"])
        return _document(value)
    if field.enum_type is not None and isinstance(value, int):
        known = field.enum_type.values_by_number.get(value)
        return known.name if known else value
    if isinstance(value, float) and field.cpp_type in _REALS:
        return Number(json.dumps(value))
    if isinstance(value, bytes):
        raise UnreadableError(Reason.WRONG_TYPE, "bytes are nothing that an event consists of", field.name)
    return value
