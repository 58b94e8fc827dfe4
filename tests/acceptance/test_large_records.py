"""Records far beyond what an event may be: refused by their size, kept, in bounded memory; the next one is applied."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.acceptance.test_commands import INVENTORY, event
from tests.support.kafka import Broker
from tests.support.postgres import Database
from tests.support.program import Program
from tests.support.stream import Stream
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow]

MEGABYTE = 1_000_000
LARGE = 50 * MEGABYTE
ALLOWED = 60 * MEGABYTE
# The record, librdkafka's buffer with it, its text on the way to PostgreSQL: a few times its size, and no more.
BOUND_MB = 700


@pytest.mark.scenario("B22", "X7")
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_a_record_of_fifty_megabytes(
    kafka: Broker,
    kafka_topic: Callable[..., str],
    database: Database,
    tmp_path: Path,
    program: Callable[..., Program],
    compression: str,
) -> None:
    """As it is, or as a compressed bomb of some kilobytes: one dead letter, and the partition goes on."""
    topic = kafka_topic(config={"max.message.bytes": str(ALLOWED)})
    stream = Stream(kafka, topic, database, tmp_path, program)
    stream.declare(INVENTORY)
    worker = stream.worker()
    options = {"message.max.bytes": ALLOWED, "compression.type": compression, "log_level": 0}
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, **options})
    producer.produce(topic, event(1))
    producer.produce(topic, b" " * LARGE)
    producer.produce(topic, event(2))
    assert producer.flush(120) == 0
    wait_until(lambda: stream.read() == 3, 120, "all three are read")
    with database.connect() as connection:
        letters = connection.execute(
            "SELECT event_offset, reason, length(event_value) FROM accum._dead_letters"
        ).fetchall()
        applied = connection.execute("SELECT sum(applied)::int FROM accum._batches").fetchone()
    assert letters == [(1, "too_large", LARGE)]
    assert applied == (2,)
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{worker.pid}/status").read_text(encoding="ascii"))
    assert peak
    assert int(peak[1]) / 1000 < BOUND_MB
    assert worker.terminate() == 0
