"""Where benchmarks run: a durable PostgreSQL and a real broker of their own, a database and a topic for each round."""

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from confluent_kafka import KafkaError, Message, Producer
from confluent_kafka.admin import AdminClient

from ingest.kafka.options import producer_config
from tests.benchmarks.loads import NAME
from tests.support.kafka import Broker, create_topic, running_broker
from tests.support.local_kafka import MEASURED_FLAGS
from tests.support.local_postgres import LocalPostgres, embedded_version
from tests.support.postgres import Database, Databases, migrate
from tests.support.program import run_tallystream
from tests.support.versions import KAFKA

PARTITIONS = 4
_MOST_QUEUED = 50_000

CREATE_PARTITIONS = f"""
    SELECT accum._ensure_partitions(r.name, array_agg(d::date))
    FROM accum._registers AS r, generate_series(timestamp '2026-03-01', timestamp '2027-03-01', interval '1 month') AS d
    WHERE r.name = '{NAME}' GROUP BY r.name
"""  # noqa: S608


@dataclass(slots=True)
class Stage:
    """The servers, and how much of everything is run: `factor` 1 is what the documentation reports."""

    admin_dsn: str
    databases: Databases
    template: Database
    broker: Broker
    folder: Path
    factor: float
    rounds: int
    settings: Mapping[str, str]
    """Of the workers, where they are not the defaults."""

    def size(self, movements: int, step: int = 1) -> int:
        """So many movements at factor 1; never none, and a multiple of the step."""
        return max(1, round(movements * self.factor / step)) * step

    @contextlib.contextmanager
    def database(self, declaration: str | None = None) -> Iterator[Database]:
        """A migrated database, and the register in it; it has its partitions, as a running compactor sees to it."""
        database = self.databases.create(self.template)
        try:
            if declaration is not None:
                self.declare(database, declaration)
                with database.connect() as connection:
                    connection.execute(CREATE_PARTITIONS.encode())
            yield database
        finally:
            self.databases.drop(database)

    def declare(self, database: Database, declaration: str) -> None:
        """A register, as an operator creates it."""
        file = self.folder / "registers.toml"
        file.write_text(declaration, encoding="utf-8")
        run_tallystream("register", "apply", str(file), env={"TALLYSTREAM_POSTGRES_DSN": database.dsn}).check()

    def topic(self) -> str:
        """A new topic."""
        return create_topic(AdminClient({"bootstrap.servers": self.broker.bootstrap_servers}), PARTITIONS)

    def produce(self, topic: str, events: Iterable[tuple[bytes, bytes]]) -> int:
        """Sends events with the product's own options for producers; returns when the broker has them all."""
        config = producer_config(self.broker.bootstrap_servers, {}) | {"queue.buffering.max.kbytes": 1024 * 1024}
        producer = Producer(config)
        failures: list[KafkaError] = []

        def delivered(error: KafkaError | None, _message: Message) -> None:
            if error is not None:
                failures.append(error)

        count = 0
        for key, value in events:
            while len(producer) >= _MOST_QUEUED:
                producer.poll(0.05)
                assert not failures, failures[0]
            producer.produce(topic, value, key, on_delivery=delivered)
            count += 1
        producer.flush()
        assert not failures, failures[0]
        return count

    def settle(self) -> None:
        """Nothing of an earlier round is left to be written while the clock runs."""
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            connection.execute("CHECKPOINT")


@contextlib.contextmanager
def open_stage(factor: float, rounds: int, settings: Mapping[str, str]) -> Iterator[Stage]:
    """Starts everything, and leaves nothing."""
    with contextlib.ExitStack() as stack:
        server = LocalPostgres()
        stack.callback(server.close)
        server.start()
        databases = Databases(server.dsn)
        template = databases.create()
        migrate(template.dsn)
        broker = stack.enter_context(running_broker(MEASURED_FLAGS))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ts-bench-")))
        yield Stage(server.dsn, databases, template, broker, folder, factor, rounds, settings)


def describe_machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "processor": f"{os.cpu_count()} cores, {model}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "postgresql": f"{embedded_version()} with its own defaults; fsync and synchronous_commit on",
        "kafka": f"{KAFKA}, one broker, {PARTITIONS} partitions",
    }


def sums_in(connection: psycopg.Connection, table: str) -> tuple[int, int]:
    """The sums of a table's resources, in hundredths."""
    row = connection.execute(
        f"SELECT coalesce(sum(quantity) * 100, 0)::bigint, coalesce(sum(amount) * 100, 0)::bigint"  # noqa: S608
        f" FROM accum.{NAME}_{table}".encode()
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1])
