"""The beginning of a process: a PostgreSQL that comes up later is waited for, and mistakes are told at once."""

import itertools
import json
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from pathlib import Path

import psycopg
import pytest
from confluent_kafka.admin import AdminClient
from psycopg.conninfo import make_conninfo

from tests.support.events import EVENT
from tests.support.http import answers, fetch
from tests.support.kafka import Broker, create_topic
from tests.support.local_postgres import LocalPostgres
from tests.support.postgres import Database, migrate
from tests.support.processes import free_ports
from tests.support.program import Program, run_tallystream
from tests.support.stream import INVENTORY, PARTITIONS, Stream
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

TIMEOUT_S = 120
WAITING = "PostgreSQL is not available, waiting"


def failing(port: int) -> set[str]:
    """The conditions of /ready that do not hold."""
    return {check["check"] for check in fetch(port, "/ready").json["checks"] if not check["ok"]}


def is_ready(port: int) -> bool:
    """What /ready says in a word."""
    return answers(port, "/ready") == HTTPStatus.OK


def test_postgres_comes_up_later(
    kafka: Broker,
    own_postgres: LocalPostgres,
    own_database: Callable[[], Database],
    program: Callable[..., Program],
    tmp_path: Path,
) -> None:
    """Worker and compactor live, are not ready, say what they wait for, and begin when it is there."""
    database = own_database()
    migrate(database.dsn)
    topic = create_topic(AdminClient({"bootstrap.servers": kafka.bootstrap_servers}), PARTITIONS)
    stream = Stream(kafka, topic, database, tmp_path, partial(Program, folder=tmp_path))
    stream.declare(INVENTORY)
    own_postgres.stop()
    ports = free_ports(2)
    processes = [
        program(command, env={**stream.env, "TALLYSTREAM_HTTP_PORT": str(port)})
        for command, port in zip(("run", "compact"), ports, strict=True)
    ]
    for process, port in zip(processes, ports, strict=True):
        told = process.wait_for_log(event=WAITING, count=2)
        assert "refused" in told["error"] or "No such file" in told["error"]
        assert (answers(port, "/live"), answers(port, "/ready")) == (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE)
        assert failing(port) >= {"running", "postgres"}
        assert process.logged(event="started") == []
    run_tallystream("compact", "--once", env=stream.env).check(2)
    own_postgres.start()
    for process, port in zip(processes, ports, strict=True):
        process.wait_for_log(event="started", timeout_s=TIMEOUT_S)
        wait_until(partial(is_ready, port), TIMEOUT_S, "it is ready")
    stream.produce([json.dumps(EVENT).encode()])
    stream.wait_until_read()
    assert stream.counts()["applied"] == 1
    assert [process.terminate() for process in processes] == [0, 0]


def test_it_can_be_stopped_while_it_waits(
    kafka: Broker, own_postgres: LocalPostgres, program: Callable[..., Program]
) -> None:
    """With the exit code of an orderly end."""
    dsn = own_postgres.dsn
    own_postgres.stop()
    env = {"TALLYSTREAM_POSTGRES_DSN": dsn, "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}
    for command in ("run", "compact"):
        process = program(command, env={**env, "TALLYSTREAM_TOPICS": "t", "TALLYSTREAM_HTTP_PORT": "0"})
        process.wait_for_log(event=WAITING)
        assert process.terminate() == 0, process.tail()


@pytest.fixture
def guarded(own_postgres: LocalPostgres) -> LocalPostgres:
    """A server without our schema, on which one role needs a password."""
    hba = own_postgres.data / "pg_hba.conf"
    rule = "host all guarded 127.0.0.1/32 scram-sha-256\n"
    hba.write_text(rule + hba.read_text(encoding="utf-8"), encoding="utf-8")
    with psycopg.connect(own_postgres.dsn, autocommit=True) as admin:
        admin.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
        admin.execute("SELECT pg_reload_conf()")
    return own_postgres


def test_what_a_person_has_to_mend_is_told_at_once(kafka: Broker, guarded: LocalPostgres) -> None:
    """No schema, no such role or database, a wrong password: exit code 2, and one line that says which."""
    env = {
        "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TALLYSTREAM_TOPICS": "t",
        "TALLYSTREAM_HTTP_PORT": "0",
    }
    by_password = make_conninfo(guarded.dsn, host="127.0.0.1", user="guarded")
    wrong = {
        guarded.dsn: "has no tallystream tables; run `tallystream migrate` first",
        make_conninfo(guarded.dsn, user="somebody"): 'role "somebody" does not exist',
        make_conninfo(guarded.dsn, dbname="nowhere"): 'database "nowhere" does not exist',
        make_conninfo(by_password, password=guarded.dsn): 'password authentication failed for user "guarded"',
        by_password: "no password supplied",
    }
    for (dsn, message), command in zip(wrong.items(), itertools.cycle(["run", "compact"]), strict=False):
        done = run_tallystream(command, env={**env, "TALLYSTREAM_POSTGRES_DSN": dsn}).check(2)
        assert message in done.err.splitlines()[-1]
        assert WAITING not in done.err
