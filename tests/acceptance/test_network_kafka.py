"""Networks to both servers that fail under load: the worker goes on by itself, and every event is applied once."""

import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.kafka.options import producer_config
from ingest.kafka.producer import EventProducer
from tests.support import local_kafka
from tests.support.kafka import create_topic
from tests.support.lacking import skip_for
from tests.support.local_kafka import LocalKafka
from tests.support.postgres import Database
from tests.support.processes import free_ports
from tests.support.program import Program, run_tallystream, small_batches
from tests.support.steady_load import STOCK, steady_load
from tests.support.toxiproxy import Link, Network, Stream

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(1200)]

PARTITIONS = 3
GO_ON_TIMEOUT_S = 90
FAULTS: list[tuple[str, Stream | None]] = [("timeout", None), ("timeout", "downstream"), ("reset_peer", None)]
# `make network` takes its time.
ROUNDS = 50 if os.environ.get("TALLYSTREAM_TEST_LONG") else 2


@dataclass
class Far:
    """A worker at the other end of two links, and a load that goes on."""

    kafka: Link
    postgres: Link
    database: Database
    env: dict[str, str]
    sent: Callable[[], int]
    worker: Program

    def movements(self) -> int:
        """How many events were applied, as a session sees it that no link is between."""
        with self.database.connect() as connection:
            row = connection.execute("SELECT count(*) FROM accum.stock_movements").fetchone()
            return int(row[0]) if row else 0

    def goes_on(self) -> None:
        """Until what was sent by now is applied."""
        place = self.sent()
        self.worker.wait_until(lambda: self.movements() >= place, GO_ON_TIMEOUT_S, f"{place} events are applied")


@pytest.fixture
def far(network: Network, database: Database, program: Callable[..., Program], tmp_path: Path) -> Iterator[Far]:
    """Everything is well yet."""
    if lack := local_kafka.missing():
        skip_for(f"no broker that can tell clients another address: {lack}")
    server = conninfo_to_dict(database.dsn)
    host = str(server.get("host") or "127.0.0.1")
    postgres = network.link(f"{'127.0.0.1' if host.startswith('/') else host}:{server.get('port') or 5432}")
    (port,) = free_ports(1)
    kafka = network.link(f"127.0.0.1:{port}")
    broker = LocalKafka(port=port, advertised_port=kafka.port)
    try:
        broker.start()
        topic = create_topic(AdminClient({"bootstrap.servers": kafka.address, "log_level": 0}), PARTITIONS)
        env = {
            "TALLYSTREAM_POSTGRES_DSN": make_conninfo(
                database.dsn, host="127.0.0.1", port=postgres.port, sslmode="disable"
            ),
            "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.address,
            "TALLYSTREAM_TOPICS": topic,
            "TALLYSTREAM_SESSION_TIMEOUT_MS": "6000",
            "TALLYSTREAM_STATEMENT_TIMEOUT_MS": "2000",
            "TALLYSTREAM_LOCK_TIMEOUT_MS": "2000",
            "TALLYSTREAM_CONNECT_TIMEOUT_MS": "2000",
            "TALLYSTREAM_RETRY_MAX_MS": "500",
            **small_batches(20),
            "TALLYSTREAM_KAFKA_OPTIONS": '{"socket.timeout.ms": "3000", "reconnect.backoff.max.ms": "500"}',
        }
        file = tmp_path / "stock.toml"
        file.write_text(STOCK, encoding="utf-8")
        run_tallystream("register", "apply", str(file), env=env).check()
        options = {"socket.timeout.ms": "3000", "reconnect.backoff.max.ms": "500", "delivery.timeout.ms": "300000"}
        producer = EventProducer(producer_config(kafka.address, options), topic)
        with steady_load(producer, 0.02) as sent:
            worker = program("run", env=env)
            found = Far(kafka, postgres, database, env, sent, worker)
            worker.wait_until(lambda: found.movements() > 20, GO_ON_TIMEOUT_S, "the first events are applied")
            yield found
            kafka.heal()
            postgres.heal()
        check(found)
    finally:
        broker.close()


def check(far: Far) -> None:
    """Every event once, and the worker ends in order."""
    total = far.sent()
    far.worker.wait_until(lambda: far.movements() >= total, GO_ON_TIMEOUT_S, "everything is applied")
    with far.database.connect() as connection:
        counted = connection.execute(
            "SELECT count(*), count(DISTINCT recorder), sum(quantity) FROM accum.stock_movements"
        ).fetchone()
        books = connection.execute("SELECT sum(applied)::int, sum(events)::int FROM accum._batches").fetchone()
    assert (counted, books) == ((total, total, total), (total, total))
    assert far.worker.terminate() == 0
    run_tallystream("verify", env=far.env).check()


def check_only_slow(far: Far) -> None:
    """Delays that vary, there and back, on both links: no batch fails, nothing is read again, and the group is calm.

    That reading waits for PostgreSQL is what slow links do, and is said.
    """
    begun = len(far.worker.logs)
    for link in (far.kafka, far.postgres):
        link.poison("latency", latency=300, jitter=200)
    for _ in range(3):
        far.goes_on()
    said = far.worker.logs[begun:]
    unwanted = [log for log in said if log["level"] != "info" or log["event"] == "partitions assigned"]
    assert {log["event"] for log in unwanted} <= {"waiting for PostgreSQL; reading is paused"}
    for link in (far.kafka, far.postgres):
        link.heal()


@pytest.mark.scenario("N4", "N5", "N6", "N7", "N10", "B6")
def test_links_that_fail_under_load(far: Far, rng: random.Random) -> None:
    """Every kind of bad network on both links, then outages that overlap and end in any order: the work goes on."""
    check_only_slow(far)
    for link in (far.kafka, far.postgres):
        link.poison("slicer", average_size=50, size_variation=30, delay=0)
        far.goes_on()
        link.heal()
        for kind, stream in FAULTS:
            link.poison(kind, stream, timeout=0)
            time.sleep(1.0)  # bad for a while; what is waited for comes when it is good again
            link.heal()
            far.goes_on()
    links = [far.kafka, far.postgres]
    for _ in range(ROUNDS):
        for link in rng.sample(links, len(links)):
            link.cut() if rng.random() < 0.5 else link.poison("timeout", timeout=0)
            time.sleep(rng.uniform(0.0, 1.5))  # how outages overlap is what is tried
        for link in rng.sample(links, len(links)):
            link.heal()
            time.sleep(rng.uniform(0.0, 1.0))
        far.goes_on()
