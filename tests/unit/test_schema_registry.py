"""Values that name a schema: JSON Schema, Avro and Protobuf say the same event; bad ones are refused with a reason."""

import base64
import json
from decimal import Decimal
from functools import partial

import pytest
from msgspec.structs import replace

from ingest.domain.decoding import Decoder
from ingest.domain.messages import Event, Refusal
from ingest.kafka.schema_registry import Schema, SchemaReader
from tests.support.events import EVENT, INVENTORY, accepted, event, record, refused
from tests.support.formats import AVRO, EXACT, LINE, PROTO, avro, compiled, framed, in_avro, in_protobuf


def read(kind: str, text: str, payload: bytes, references: dict[str, str] | None = None) -> Event | Refusal:
    """What the decoder makes of a payload written with schema 7."""
    schemas = {7: Schema(7, kind, text, references or {})}
    return Decoder({"inventory": INVENTORY}, None, SchemaReader(schemas.get)).decode(record(framed(payload)))


def same(result: Event | Refusal, **changes: object) -> bool:
    """Whether it is the event that plain JSON would have made."""
    plain = accepted(Decoder({"inventory": INVENTORY}).decode(record(event(**changes))))
    return replace(accepted(result), message=plain.message) == plain


def test_json_schema() -> None:
    """The text behind the schema's number is read as any other."""
    assert same(read("JSON", "{}", json.dumps(EVENT).encode()))
    assert refused(read("JSON", "{}", b'{"id": 1, "id": 2}')) == "duplicate_key id"


def test_avro() -> None:
    """Records, enumerations, unions, decimals, times and doubles; a schema may refer to others."""
    assert same(read("AVRO", json.dumps(AVRO), avro(in_avro())))
    by_name = json.loads(json.dumps(AVRO))
    by_name["fields"][-1]["type"]["items"] = "shop.Line"
    assert same(read("AVRO", json.dumps(by_name), avro(in_avro()), {"shop.Line": json.dumps(LINE)}))
    lines = [{**EXACT, "warehouse": None, "lot": None, "quantity": Decimal("0.001"), "amount": "0.1"}]
    plain = [{"warehouse": None, "product": 42, "lot": None, "quantity": "0.001", "amount": "0.1"}]
    assert same(read("AVRO", json.dumps(AVRO), avro(in_avro(movements=lines))), movements=plain)
    nothing = in_avro(type="unpost", movements=[], period=None)
    assert same(read("AVRO", json.dumps(AVRO), avro(nothing)), type="unpost", movements=..., period=...)


@pytest.mark.parametrize(
    ("amount", "expected"),
    [(0.1, "ok"), (0.1 + 0.2, "inexact movements[0].amount"), (float("nan"), "not_finite movements[0].amount")],
)
def test_doubles(amount: float, expected: str) -> None:
    """A double is the shortest decimal that means it, as in JSON; nothing is rounded to fit."""
    result = read("AVRO", json.dumps(AVRO), avro(in_avro(movements=[{**EXACT, "amount": amount}])))
    assert (refused(result) if isinstance(result, Refusal) else "ok") == expected


@pytest.mark.parametrize(
    ("payload", "text", "expected"),
    [
        (b"", json.dumps(AVRO), "not_of_schema"),
        (avro(in_avro())[:-3], json.dumps(AVRO), "not_of_schema"),
        (avro(in_avro()) + b"\0", json.dumps(AVRO), "not_of_schema"),
        (b"\0", '"int"', "not_an_object"),
        (b"\0", '{"type": "nonsense"}', "not_of_schema"),
        (b"\0", "{", "not_of_schema"),
        (
            b"\x02\x02a",
            '{"type": "record", "name": "E", "fields": [{"name": "id", "type": ["null", "bytes"]}]}',
            "wrong_type",
        ),
    ],
)
def test_avro_refusals(payload: bytes, text: str, expected: str) -> None:
    """Whatever is broken, the event is refused and nothing is raised."""
    assert refused(read("AVRO", text, payload)) == expected


def test_protobuf() -> None:
    """Presence, well-known types, nested messages; from the text of the schema, or from its descriptor."""
    protobuf = partial(in_protobuf, compiled(PROTO))
    assert same(read("PROTOBUF", PROTO, protobuf()))
    serialized = base64.b64encode(compiled(PROTO).file[-1].SerializeToString()).decode()
    assert same(read("PROTOBUF", serialized, protobuf()))
    absent = [{"product": 42, "quantity": {"value": "0.5"}}]
    plain = [{"warehouse": None, "product": 42, "lot": None, "quantity": "0.5", "amount": 0}]
    assert same(read("PROTOBUF", PROTO, protobuf(movements=absent)), movements=plain)
    nothing = protobuf(type="unpost", movements=[])
    assert same(read("PROTOBUF", PROTO, nothing), type="unpost", movements=...)
    assert (
        refused(read("PROTOBUF", PROTO, protobuf(movements=[{"product": 1}])))
        == "missing_resource movements[0].quantity"
    )


@pytest.mark.parametrize(
    ("payload", "text", "expected"),
    [
        (b"", PROTO, "not_of_schema"),
        (b"\x02", PROTO, "not_of_schema"),
        (b"\x02\x08", PROTO, "not_of_schema"),
        (b"\x02\x02\xff\xff", PROTO, "not_of_schema"),
        (b"\xff" * 20, PROTO, "not_of_schema"),
        (b"\x00", PROTO, "unknown_key"),
        (b"\x00", "message {", "not_of_schema"),
        (b"\x00", 'syntax = "proto3"; import "../../etc/passwd"; message E {}', "not_of_schema"),
    ],
)
def test_protobuf_refusals(payload: bytes, text: str, expected: str) -> None:
    """Whatever is broken, the event is refused and nothing is raised."""
    result = read("PROTOBUF", text, payload)
    assert isinstance(result, Refusal)
    assert refused(result).split()[0] in {expected, "missing_key"}


def test_schemas_are_asked_for_once() -> None:
    """One that is there is kept; one that is not is asked for again after a while, for it may have been late."""
    asked: list[int] = []
    schemas: dict[int, Schema] = {1: Schema(1, "JSON", "{}", {})}
    now = 0.0

    def lookup(schema_id: int) -> Schema | None:
        asked.append(schema_id)
        return schemas.get(schema_id)

    reader = SchemaReader(lookup, lambda: now)
    decoder = Decoder({"inventory": INVENTORY}, None, reader)
    for schema_id in (1, 1, 2, 2):
        decoder.decode(record(framed(b"{}", schema_id)))
    assert asked == [1, 2]
    assert refused(decoder.decode(record(framed(b"{}", 2)))) == "unknown_schema"
    schemas[2], now = Schema(2, "JSON", "{}", {}), 31.0
    assert isinstance(decoder.decode(record(framed(json.dumps(EVENT).encode(), 2))), Event)
    assert asked == [1, 2, 2]


def test_without_a_registry() -> None:
    """The refusal says what to set."""
    result = Decoder({"inventory": INVENTORY}).decode(record(framed(b"{}")))
    assert isinstance(result, Refusal)
    assert refused(result) == "unknown_schema"
    assert result.detail == "the value names schema 7, and no schema_registry_url is set"
