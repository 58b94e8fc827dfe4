"""One event in every format that a producer may choose, through a real broker, a real registry and a real worker."""

import json
from collections.abc import Iterator

import pytest
from cloudevents.core.bindings.kafka import to_binary, to_structured
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent
from confluent_kafka import Producer
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.support.events import EVENT
from tests.support.formats import ATTRIBUTES, AVRO, DATA, PROTO, compiled, framed, in_avro, in_protobuf
from tests.support.processes import free_ports
from tests.support.stream import Stream

pytestmark = pytest.mark.slow

KEY = b"receipt:1"
JSON_SCHEMA = '{"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}'
REGISTER = """
[register.inventory]
kind = "balance"
tombstone_unposts = true
dimensions = { warehouse = "int", product = "int", lot = "text" }
resources = { quantity = "numeric(18,3)", amount = "numeric(18,2)" }
"""


@pytest.fixture
def registry(schema_registry: str) -> Iterator[SchemaRegistryClient]:
    """The registry's own client."""
    with SchemaRegistryClient({"url": schema_registry}) as client:
        yield client


@pytest.mark.scenario("B18")
def test_formats(stream: Stream, schema_registry: str, registry: SchemaRegistryClient) -> None:
    """The first is applied and every other one is the same event again; a tombstone takes it back."""
    stream.declare(REGISTER)
    stream.extra["TALLYSTREAM_SCHEMA_REGISTRY_URL"] = schema_registry
    json_id = registry.register_schema(f"{stream.topic}-json", Schema(JSON_SCHEMA, "JSON"))
    proto_id = registry.register_schema(f"{stream.topic}-proto", Schema(PROTO, "PROTOBUF"))
    write_avro = AvroSerializer(registry, json.dumps(AVRO))
    cloud = CloudEvent({**ATTRIBUTES, "datacontenttype": "application/json"}, DATA)
    bound = [to_binary(cloud, JSONFormat()), to_structured(cloud, JSONFormat())]
    plain = json.dumps(EVENT).encode()
    binary, structured = ((bytes(m.value), [(k, bytes(v)) for k, v in m.headers.items()]) for m in bound)
    records = [
        (plain, []),
        binary,
        structured,
        (framed(plain, json_id), []),
        (write_avro(in_avro(), SerializationContext(stream.topic, MessageField.VALUE)), []),
        (framed(in_protobuf(compiled(PROTO)), proto_id), []),
        (framed(json.dumps(DATA).encode(), json_id), binary[1]),
        (framed(plain, 9999), []),
    ]
    producer = Producer({"bootstrap.servers": stream.kafka.bootstrap_servers})
    for value, headers in records:
        producer.produce(stream.topic, value, KEY, partition=0, headers=[*headers])
    producer.flush(60)
    stream.worker()
    stream.wait_until_read()
    assert stream.counts() == {"applied": 1, "duplicates": 6, "stale": 0, "dead_letters": 1}
    (letter,) = json.loads(stream.run("dead-letters", "list", "--json").check().out)
    assert (letter["reason"], letter["detail"]) == ("unknown_schema", "schema 9999 is not in the registry")
    assert balance(stream) == {"quantity": 100, "amount": 5000}

    producer.produce(stream.topic, None, KEY, partition=0)
    producer.flush(60)
    stream.wait_until_read()
    assert balance(stream) == {"quantity": 0, "amount": 0}


def test_a_registry_that_is_away(stream: Stream) -> None:
    """Says nothing about an event: nothing is refused and nothing is passed over until it answers."""
    (port,) = free_ports(1)
    stream.declare(REGISTER)
    stream.extra["TALLYSTREAM_SCHEMA_REGISTRY_URL"] = f"http://127.0.0.1:{port}"
    producer = Producer({"bootstrap.servers": stream.kafka.bootstrap_servers})
    producer.produce(stream.topic, framed(json.dumps(EVENT).encode()), KEY, partition=0)
    producer.flush(60)
    worker = stream.worker()
    for count in (1, 2):
        said = worker.wait_for_log(event="cannot read on; trying again from the stored positions", count=count)
        assert "the schema registry does not answer" in said["error"]
    assert stream.counts()["dead_letters"] == 0
    assert stream.read() == 0
    stream.stop()


def balance(stream: Stream) -> dict[str, int]:
    """What the register says of everything."""
    with stream.database.connect() as connection:
        row = connection.execute("SELECT accum.inventory_balance()").fetchone()
    assert row is not None
    return {name: int(value) for name, value in row[0].items()}
