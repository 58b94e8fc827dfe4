"""Where it happens: a broker and a server that may be killed, and connections that may break at a COMMIT."""

import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]
from psycopg.types.json import Jsonb

from tests.support.kafka import create_topic
from tests.support.local_kafka import LocalKafka
from tests.support.local_postgres import LocalPostgres
from tests.support.postgres import Database, Databases, migrate
from tests.support.program import small_batches
from tests.support.proxy import Proxy
from tests.torture.load import REGISTERS

PARTITIONS = 6
REQUEST_TIMEOUT_S = 30
SESSION_TIMEOUT_MS = 6_000


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers, the topic, and what a deployment would set."""

    kafka: LocalKafka
    postgres: LocalPostgres
    database: Database
    proxy: Proxy
    topic: str
    dead_letter_topic: str
    folder: Path

    @property
    def group(self) -> str:
        """The one consumer group."""
        return f"group-{self.topic}"

    @property
    def env(self) -> Mapping[str, str]:
        """Small batches and short times: a short run meets more."""
        return {
            "TALLYSTREAM_POSTGRES_DSN": self.proxy.dsn,
            "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "TALLYSTREAM_TOPICS": self.topic,
            "TALLYSTREAM_GROUP": self.group,
            "TALLYSTREAM_SESSION_TIMEOUT_MS": str(SESSION_TIMEOUT_MS),
            **small_batches(40),
            "TALLYSTREAM_FLUSH_AFTER_MS": "50",
            "TALLYSTREAM_CONNECT_TIMEOUT_MS": "3000",
            "TALLYSTREAM_STATEMENT_TIMEOUT_MS": "8000",
            "TALLYSTREAM_LOCK_TIMEOUT_MS": "3000",
            "TALLYSTREAM_RETRY_MAX_MS": "1000",
            "TALLYSTREAM_REVOKE_BUDGET_MS": "2000",
            "TALLYSTREAM_STOP_BUDGET_MS": "3000",
            "TALLYSTREAM_COMPACT_INTERVAL_MS": "300",
            "TALLYSTREAM_COMPACT_MIN_AGE_MS": "300",
            "TALLYSTREAM_COMPACT_SLICE_DELTAS": "200",
            "TALLYSTREAM_COMPACT_TIMEOUT_MS": "3000",
            "TALLYSTREAM_RELAY_INTERVAL_MS": "1000",
            "TALLYSTREAM_DEAD_LETTER_TOPIC": self.dead_letter_topic,
            "TALLYSTREAM_KAFKA_OPTIONS": '{"reconnect.backoff.max.ms": "500"}',
        }

    def end(self) -> dict[int, int]:
        """Where the log of each partition ends."""
        admin = AdminClient({"bootstrap.servers": self.kafka.bootstrap_servers, "log_level": 0})
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        answers = admin.list_offsets({TopicPartition(self.topic, n): latest for n in range(PARTITIONS)})
        return {tp.partition: int(answer.result(REQUEST_TIMEOUT_S).offset) for tp, answer in answers.items()}

    def positions(self) -> dict[int, int]:
        """How far each partition has been applied."""
        with self.connect() as connection:
            rows = connection.execute("SELECT partition, next_offset FROM accum._positions").fetchall()
        return {int(partition): int(offset) for partition, offset in rows}

    def mirrored(self) -> dict[int, int]:
        """The offsets that Kafka was told."""
        with contextlib.closing(self.consumer()) as consumer:
            partitions = [TopicPartition(self.topic, n) for n in range(PARTITIONS)]
            return {tp.partition: tp.offset for tp in consumer.committed(partitions, timeout=REQUEST_TIMEOUT_S)}

    def consumer(self) -> Consumer:
        """One that looks, and is no member of the group."""
        options = {"group.id": self.group, "enable.auto.commit": False, "auto.offset.reset": "earliest", "log_level": 0}
        return Consumer({"bootstrap.servers": self.kafka.bootstrap_servers, **options})

    def connect(self, **options: object) -> psycopg.Connection:
        """A session that no proxy breaks."""
        return self.database.connect(connect_timeout=3, **options)

    def freeze(self, pid: int, *, thaw: bool = False) -> None:
        """SIGSTOP, or SIGCONT, of a server with all its processes."""
        with contextlib.suppress(psutil.NoSuchProcess):
            server = psutil.Process(pid)
            for process in [server, *server.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume() if thaw else process.suspend()


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Set up, and cleared away whatever happens."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="ts-torture-")))
        postgres = LocalPostgres()
        stack.callback(postgres.close)
        kafka = LocalKafka()
        stack.callback(kafka.close)
        postgres.start()
        kafka.start()
        database = Databases(postgres.dsn).create()
        migrate(database.dsn)
        _declare(database)
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
        topics = create_topic(admin, PARTITIONS), create_topic(admin)
        proxy = stack.enter_context(Proxy(database.dsn))
        yield Stage(kafka, postgres, database, proxy, *topics, folder)


def _declare(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("SET search_path = accum")
        for register in REGISTERS.values():
            columns = [
                [{"name": column.name, "type": column.type} for column in listed]
                for listed in (register.dimensions, register.resources)
            ]
            connection.execute(
                "SELECT register_create(%s, %s, %s, kind => %s, time_zone => %s, high_write => %s)",
                (register.name, *map(Jsonb, columns), register.kind.value, register.time_zone, register.high_write),
            )
