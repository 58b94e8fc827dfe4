"""Health of real processes: what /live and /ready say while the broker, the disk or the reader of the log is away."""

import fcntl
import json
import re
import shutil
import struct
import subprocess
import termios
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.support.events import EVENT
from tests.support.http import answers, fetch
from tests.support.kafka import ControlledBroker, create_topic
from tests.support.local_postgres import UNPRIVILEGED_USER, LocalPostgres
from tests.support.postgres import Database, migrate
from tests.support.processes import free_ports
from tests.support.program import COMMAND, Program, environment
from tests.support.stream import INVENTORY, Stream
from tests.support.waiting import wait_until

TIMEOUT_S = 120
DISK_MB = 48
LEFT_BYTES = 100_000


def wait_for_status(port: int, path: str, status: HTTPStatus) -> None:
    """Waits until a path answers so."""
    wait_until(lambda: answers(port, path) == status, TIMEOUT_S, f"{path} answers {status.value}")


def failing(port: int) -> set[str]:
    """The conditions of /ready that do not hold."""
    return {check["check"] for check in fetch(port, "/ready").json["checks"] if not check["ok"]}


def metric(port: int, name: str) -> float:
    """The value of a metric without labels."""
    found = re.search(rf"^{name} (\S+)$", fetch(port, "/metrics").text, re.MULTILINE)
    assert found is not None, f"{name} is not told"
    return float(found[1])


def records(first: int, count: int) -> list[tuple[bytes, bytes]]:
    """Good events, each a document of its own."""
    numbers = range(first, first + count)
    events = [EVENT | {"id": f"e-{n}", "recorder": f"r-{n}"} for n in numbers]
    return [(f"r-{n}".encode(), json.dumps(event).encode()) for n, event in zip(numbers, events, strict=True)]


@pytest.mark.scenario("B1", "B2")
def test_a_broker_that_is_away(
    own_kafka: ControlledBroker, database: Database, program: Callable[..., Program]
) -> None:
    """At the start or later: the process lives, is not ready, holds nothing open, and is ready once it is back."""
    topic = create_topic(AdminClient({"bootstrap.servers": own_kafka.bootstrap_servers}))
    own_kafka.stop()
    (port,) = free_ports(1)
    program(
        "run",
        env={
            "TALLYSTREAM_POSTGRES_DSN": database.dsn,
            "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": own_kafka.bootstrap_servers,
            "TALLYSTREAM_TOPICS": topic,
            "TALLYSTREAM_HTTP_PORT": str(port),
        },
    ).wait_for_log(event="started")
    wait_until(lambda: failing(port) == {"kafka", "group"}, TIMEOUT_S, "only Kafka is missing")
    assert (answers(port, "/live"), answers(port, "/ready")) == (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE)
    assert (metric(port, "tallystream_kafka_up"), metric(port, "tallystream_postgres_up")) == (0, 1)
    with database.connect_as_admin() as connection:
        in_transaction = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND state LIKE 'idle in transaction%' AND pid <> pg_backend_pid()"
        ).fetchone()
    assert in_transaction == (0,)
    own_kafka.start()
    wait_for_status(port, "/ready", HTTPStatus.OK)
    assert metric(port, "tallystream_kafka_up") == 1
    own_kafka.kill()
    wait_until(lambda: "kafka" in failing(port), TIMEOUT_S, "the loss is told")
    assert answers(port, "/live") == HTTPStatus.OK


@pytest.mark.scenario("O10")
def test_nobody_reads_the_log(stream: Stream) -> None:
    """A full pipe stops neither the worker nor its end."""
    (port,) = free_ports(1)
    stream.declare(INVENTORY)
    env = {**stream.env, "TALLYSTREAM_HTTP_PORT": str(port), "TALLYSTREAM_LOG_LEVEL": "debug"}
    with subprocess.Popen(
        [COMMAND, "run"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment(env), cwd=stream.folder
    ) as process:
        try:
            assert process.stderr is not None
            pipe = process.stderr.fileno()
            size = fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, 4096)
            wait_for_status(port, "/ready", HTTPStatus.OK)
            sent = 0
            while _waiting(pipe) < size - 1024:
                stream.produce_keyed(records(sent, 10))
                sent += 10
                stream.wait_until_read()
            stream.produce_keyed(records(sent, 50))
            stream.wait_until_read()
            assert metric(port, "tallystream_failing") == 0
            assert answers(port, "/live") == HTTPStatus.OK
            process.terminate()
            assert process.wait(TIMEOUT_S) == 0
        finally:
            process.kill()


def _waiting(pipe: int) -> int:
    """How many bytes are in a pipe."""
    counted: int = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))[0]
    return counted


@pytest.mark.scenario("P6")
def test_a_full_disk(stream: Stream, own_postgres: LocalPostgres, small_disk: Callable[[int], Path]) -> None:
    """Nothing is lost, refused or half applied; the worker is not ready until there is room again, and then goes on."""
    (port,) = free_ports(1)
    disk = small_disk(DISK_MB)
    stream.database = _database_on(own_postgres, disk)
    stream.extra["TALLYSTREAM_HTTP_PORT"] = str(port)
    stream.extra["TALLYSTREAM_RETRY_MAX_MS"] = "500"
    stream.declare(INVENTORY)
    stream.worker()
    stream.produce_keyed(records(0, 50))
    stream.wait_until_read()
    wait_for_status(port, "/ready", HTTPStatus.OK)
    filler = disk / "filler"
    filler.write_bytes(b"\0" * (shutil.disk_usage(disk).free - LEFT_BYTES))
    stream.produce_keyed(records(50, 3000))
    wait_until(lambda: failing(port) == {"applying"}, TIMEOUT_S, "the failure is told")
    assert metric(port, "tallystream_failing") == 1
    assert answers(port, "/live") == HTTPStatus.OK
    assert stream.read() < stream.end()
    said = stream.workers[0].wait_for_log(event="batch failed, trying again")
    assert "SQLSTATE 53100" in said["error"]
    filler.unlink()
    stream.wait_until_read()
    wait_for_status(port, "/ready", HTTPStatus.OK)
    stream.run("verify").check()
    with stream.database.connect() as connection:
        counted = connection.execute(
            "SELECT (SELECT count(*) FROM accum.inventory_movements), (SELECT count(*) FROM accum._dead_letters)"
        ).fetchone()
    assert counted == (3050, 0)
    stream.stop()


def _database_on(server: LocalPostgres, folder: Path) -> Database:
    """A migrated database whose tables are there; the server's log of changes is elsewhere."""
    place = folder / "tables"
    place.mkdir(mode=0o700)
    shutil.chown(place, UNPRIVILEGED_USER)
    name, owner = "small", "small_owner"
    with Database("postgres", "postgres", server.dsn, server.dsn).connect() as admin:
        admin.execute(f"CREATE ROLE {owner} LOGIN")
        admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
        admin.execute(f"CREATE DATABASE {name} OWNER {owner} TEMPLATE template0 TABLESPACE small")
    admin_dsn = f"{server.dsn} dbname={name}"
    database = Database(name, owner, f"{admin_dsn} user={owner}", admin_dsn)
    migrate(database.dsn)
    return database
