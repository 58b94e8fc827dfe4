"""Values that name a schema: JSON Schema, Avro and Protobuf say the same event; bad ones are refused with a reason."""

import base64
import json
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from msgspec.structs import replace

from ingest.domain.decoding import Decoder
from ingest.domain.messages import Event, Reason, Refusal
from ingest.domain.strict_json import Number, UnreadableError
from ingest.errors import TransientError
from ingest.kafka.avro import payload_reader
from ingest.kafka.schema_registry import ReadPayload, Schema, SchemaReader, SchemaRegistry, schema_reader
from tests.support.events import EVENT, INVENTORY, accepted, event, record, refused
from tests.support.formats import AVRO, EXACT, LINE, PROTO, avro, compiled, framed, in_avro, in_protobuf


@pytest.fixture
def registry_at() -> Iterator[Callable[[Callable[[str], tuple[int, bytes]]], str]]:
    """Starts a server that answers as it is told, and returns its URL."""
    servers: list[HTTPServer] = []

    def start(answer: Callable[[str], tuple[int, bytes]]) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body = answer(self.path)
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        servers.append(HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


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


def of_fields(*fields: tuple[str, object]) -> str:
    """An Avro schema of a record."""
    return json.dumps(
        {"type": "record", "name": "E", "fields": [{"name": name, "type": schema} for name, schema in fields]}
    )


DECIMAL = {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}


@pytest.mark.parametrize(
    ("unscaled", "expected"),
    [(123456, "1234.56"), (-999999, "-9999.99"), (5, "0.05"), (0, "0.00"), (1234567, None), (-1000000, None)],
)
def test_an_avro_decimal_is_exact_or_refused(unscaled: int, expected: str | None) -> None:
    """A number with more digits than its schema allows is not rounded to them."""
    data = unscaled.to_bytes(4, "big", signed=True)
    fixed = {"type": "fixed", "name": "F", "size": 4} | {name: DECIMAL[name] for name in DECIMAL if name != "type"}
    for schema, payload in ((DECIMAL, b"\x08" + data), (fixed, data)):
        read_payload = payload_reader(of_fields(("amount", schema)), {})
        if expected is None:
            with pytest.raises(UnreadableError, match="more digits than the 6 that its schema allows"):
                read_payload(payload)
        else:
            assert read_payload(payload) == {"amount": Number(expected)}


@pytest.mark.parametrize(
    "text",
    [
        of_fields(("next", ["null", "E"])),
        of_fields(("all", {"type": "map", "values": "E"})),
        of_fields(("lines", {"type": "array", "items": "null"})),
        of_fields(("lines", {"type": "array", "items": {"type": "record", "name": "Nothing", "fields": []}})),
        of_fields(*((f"f{number}", "int") for number in range(1000))),
    ],
)
def test_an_avro_schema_in_which_few_bytes_may_become_anything_is_refused(text: str) -> None:
    """A value without a bound on its depth ends in a crash of the process, and not in an error."""
    assert refused(read("AVRO", text, b"\x02" * 1_000_000)) == "not_of_schema"


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


def field(number: int, content: bytes) -> bytes:
    """A field of a Protobuf message whose content has a length."""
    return bytes([number << 3 | 2, len(content)]) + content


@pytest.mark.parametrize(
    ("name", "added"),
    [
        ("a moment beyond the calendar", field(6, Timestamp(seconds=10**18).SerializeToString())),
        ("a moment with a broken part", field(6, b"\x10" + b"\xff" * 9 + b"\x01")),
        ("a field that the schema does not have", field(15, b"?")),
        ("a revision that is text", field(5, b"17")),
        ("a line with more than the schema has", field(7, b"\x10\x2a" + field(15, b"?"))),
        ("a moment with more than the schema has", field(6, field(15, b"?"))),
        (
            "a quantity with more than it has",
            field(7, b"\x10\x2a" + field(4, field(1, b"1") + field(15, b"?"))),
        ),
    ],
)
def test_a_protobuf_payload_that_is_not_all_of_its_schema_is_refused(name: str, added: bytes) -> None:
    """Nothing of an event is passed over, and nothing is raised."""
    assert refused(read("PROTOBUF", PROTO, in_protobuf(compiled(PROTO)) + added)) == "not_of_schema", name


@pytest.mark.parametrize("name", ["../up.proto", "/up.proto", "up", "a\0b.proto", "x" * 300 + ".proto", "é.proto", ""])
def test_files_of_protobuf_schemas_have_plain_names(name: str) -> None:
    """They are written to a folder for the compiler."""
    assert refused(read("PROTOBUF", PROTO, b"\0", {name: 'syntax = "proto3";'})) == "not_of_schema"


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


def test_a_wrong_schema_is_compiled_once() -> None:
    """However many events name it."""
    asked: list[int] = []

    def compiled_badly(schema: Schema) -> ReadPayload:
        asked.append(schema.id)
        raise UnreadableError(Reason.NOT_OF_SCHEMA, "nonsense")

    reader = SchemaReader({7: Schema(7, "PROTOBUF", "message {", {})}.get, make_reader=compiled_badly)
    decoder = Decoder({"inventory": INVENTORY}, None, reader)
    results = [decoder.decode(record(framed(b"\0"))) for _ in range(3)]
    assert [(refused(result), result.detail) for result in results if isinstance(result, Refusal)] == 3 * [
        ("not_of_schema", "schema 7: nonsense")
    ]
    assert asked == [7]


@pytest.mark.parametrize(
    ("status", "body", "known"),
    [
        (404, b'{"error_code": 40403, "message": "Schema 7 not found"}', True),
        (404, b'{"error_code": 404, "message": "HTTP 404 Not Found"}', False),
        (404, b"<html>no such page</html>", False),
        (401, b'{"error_code": 401, "message": "Unauthorized"}', False),
    ],
)
def test_only_the_registry_can_say_that_it_has_no_such_schema(
    registry_at: Callable[..., str], status: int, body: bytes, *, known: bool
) -> None:
    """A wrong address, or a proxy whose registry is down, says nothing about the event."""
    url = registry_at(lambda _path: (status, body))
    with pytest.raises(UnreadableError if known else TransientError, match="schema 7"):
        schema_reader(url, "", "", "", timeout_s=10)(framed(b"{}"))


def test_a_slow_registry_does_not_hold_the_reader_up_for_each_reference(registry_at: Callable[..., str]) -> None:
    """The worker has to poll meanwhile; what came is kept, and the next attempt goes on from there."""
    names = [f"part{number}.proto" for number in range(6)]
    references = [{"name": name, "subject": name, "version": 1} for name in names]
    main = {"schemaType": "PROTOBUF", "schema": 'syntax = "proto3";', "references": references}
    asked: list[str] = []
    now = 0.0

    def answer(path: str) -> tuple[int, bytes]:
        nonlocal now
        now += 4
        asked.append(path.rpartition("?")[0] or path)
        part = {"subject": "s", "id": 8, "version": 1, "schemaType": "PROTOBUF", "schema": 'syntax = "proto3";'}
        return 200, json.dumps(main if "/ids/" in path else part).encode()

    lookup = SchemaRegistry({"url": registry_at(answer)}, 10, lambda: now).schema
    with pytest.raises(TransientError, match="takes too long: 3 of a schema's references came in time"):
        lookup(7)
    schema = lookup(7)
    assert schema is not None
    assert sorted(schema.references) == names
    assert len(asked) == 1 + len(names)


def test_without_a_registry() -> None:
    """The refusal says what to set."""
    result = Decoder({"inventory": INVENTORY}).decode(record(framed(b"{}")))
    assert isinstance(result, Refusal)
    assert refused(result) == "unknown_schema"
    assert result.detail == "the value names schema 7, and no schema_registry_url is set"
