"""The event of `events` as CloudEvents, Avro and Protobuf say it, and framed as a registry's clients frame it."""

import io
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Any

import fastavro
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from ingest.kafka.protobuf import _compiled
from tests.support.events import EVENT

# As a CloudEvent: these attributes, and these data.
ATTRIBUTES = {"id": "e-1", "source": "/shop", "type": "movement", "subject": "receipt:1", "specversion": "1.0"}
DATA = {key: value for key, value in EVENT.items() if key not in {"id", "type", "recorder"}}

LINE: dict[str, Any] = {
    "type": "record",
    "name": "Line",
    "namespace": "shop",
    "fields": [
        {"name": "warehouse", "type": ["null", "int"]},
        {"name": "product", "type": "long"},
        {"name": "lot", "type": ["null", "string"]},
        {"name": "quantity", "type": {"type": "bytes", "logicalType": "decimal", "precision": 18, "scale": 3}},
        {"name": "amount", "type": ["double", "string"]},
    ],
}
AVRO: dict[str, Any] = {
    "type": "record",
    "name": "Event",
    "namespace": "shop",
    "fields": [
        {"name": "id", "type": "string"},
        {"name": "type", "type": {"type": "enum", "name": "Kind", "symbols": ["movement", "unpost", "repost"]}},
        {"name": "register", "type": "string"},
        {"name": "recorder", "type": "string"},
        {"name": "revision", "type": ["null", "long"]},
        {"name": "period", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]},
        {"name": "movements", "type": {"type": "array", "items": LINE}},
    ],
}
PROTO = """
syntax = "proto3";
package shop;
import "google/protobuf/timestamp.proto";
import "google/type/decimal.proto";
message Other {}
message Event {
  string id = 1;
  string type = 2;
  string register = 3;
  string recorder = 4;
  optional int64 revision = 5;
  google.protobuf.Timestamp period = 6;
  message Line {
    optional int32 warehouse = 1;
    int64 product = 2;
    optional string lot = 3;
    google.type.Decimal quantity = 4;
    double amount = 5;
  }
  repeated Line movements = 7;
}
"""
TEN = datetime(2026, 4, 18, 10, tzinfo=UTC)
EXACT = {"warehouse": 1, "product": 42, "lot": "A", "quantity": Decimal(100), "amount": 5000.0}


def framed(payload: bytes, schema_id: int = 7) -> bytes:
    """A value that names its schema."""
    return b"\0" + schema_id.to_bytes(4, "big") + payload


def avro(document: dict[str, Any], schema: dict[str, Any] = AVRO) -> bytes:
    """The payload of a record."""
    stream = io.BytesIO()
    fastavro.schemaless_writer(stream, fastavro.parse_schema(schema), document)
    return stream.getvalue()


def in_avro(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - fields of the schema
    """The event as a writer of Avro takes it."""
    return {**EVENT, "period": TEN, "movements": [EXACT], **changes}


@cache
def compiled(text: str) -> descriptor_pb2.FileDescriptorSet:
    """A schema's descriptors."""
    return _compiled({"event.proto": text})


def in_protobuf(descriptors: descriptor_pb2.FileDescriptorSet, **changes: Any) -> bytes:  # noqa: ANN401 - fields
    """The event as the second message of PROTO, with what says that it is the second."""
    pool = DescriptorPool()
    for file in descriptors.file:
        pool.Add(file)
    line = {"warehouse": 1, "product": 42, "lot": "A", "quantity": {"value": "100"}, "amount": 5000}
    fields: dict[str, Any] = {**EVENT, "movements": [line], **changes}
    del fields["period"]
    message: Any = GetMessageClass(pool.FindMessageTypeByName("shop.Event"))(**fields)
    message.period.FromDatetime(TEN)
    return b"\x02\x02" + bytes(message.SerializeToString())
