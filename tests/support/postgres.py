"""Real PostgreSQL for tests: one server per run, one fresh database per test.

The server is, in this order: the one that TALLYSTREAM_TEST_POSTGRES_DSN names (its role may create databases and
roles); a version from Maven Central when TALLYSTREAM_TEST_POSTGRES_VERSION is 15, 16, 17 or 18; a container where
Docker answers; else the embedded one. Nothing ever stands in for the database.

    def test_something(database):          # migrated, owned by an ordinary role
        with database.connect() as connection: ...

`empty_database` is the same before migration; `own_postgres` is a server that the test may stop, kill and start again.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import make_conninfo

from tests.support.docker import container, docker_answers
from tests.support.local_postgres import LocalPostgres, embedded_version
from tests.support.processes import free_ports
from tests.support.program import run_tallystream
from tests.support.versions import POSTGRES_BINARIES, POSTGRES_IMAGE
from tests.support.waiting import wait_until

DSN_VARIABLE = "TALLYSTREAM_TEST_POSTGRES_DSN"
VERSION_VARIABLE = "TALLYSTREAM_TEST_POSTGRES_VERSION"
SCHEMA = os.environ.get("TALLYSTREAM_TEST_SCHEMA", "accum")
"""Where the product is in migrated databases. Tests of the contract do not care; those that name it need `accum`."""
SEARCH_PATH = f"-c search_path={SCHEMA}"
PASSWORD = "tallystream"  # noqa: S105 - of a database that lives for seconds
CONTAINER_READY_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class Database:
    """A database and two ways into it: as its owner, an ordinary role, and as the server's administrator."""

    name: str
    owner: str
    dsn: str
    admin_dsn: str

    def connect(self, **options: Any) -> psycopg.Connection:  # noqa: ANN401 - psycopg's own options
        """As the owner, each statement its own transaction unless told otherwise."""
        return psycopg.connect(self.dsn, **{"autocommit": True, **options})

    def connect_as_admin(self, **options: Any) -> psycopg.Connection:  # noqa: ANN401 - psycopg's own options
        return psycopg.connect(self.admin_dsn, **{"autocommit": True, **options})


class Databases:
    """Creates and drops databases on one server, all owned by one ordinary role."""

    def __init__(self, admin_dsn: str) -> None:
        self.admin_dsn = admin_dsn
        self._run = secrets.token_hex(4)
        self.owner = f"ts_owner_{self._run}"
        self._created = 0
        self._execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(self.owner), PASSWORD))

    def create(self, template: Database | None = None) -> Database:
        self._created += 1
        name = f"ts_test_{self._run}_{self._created}"
        source = sql.Identifier(template.name if template else "template0")
        self._execute(
            sql.SQL("CREATE DATABASE {} OWNER {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(self.owner), source
            )
        )
        admin_dsn = make_conninfo(self.admin_dsn, dbname=name)
        dsn = make_conninfo(admin_dsn, user=self.owner, password=PASSWORD)
        return Database(name, self.owner, dsn, admin_dsn)

    def drop(self, database: Database) -> None:
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database.name)))

    def close(self) -> None:
        self._execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(self.owner)))

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.admin_dsn, autocommit=True) as connection:
            connection.execute(statement)


def describe() -> str:
    """For the suite's header: which server the tests will use."""
    if dsn := os.environ.get(DSN_VARIABLE):
        with psycopg.connect(dsn) as connection:
            return f"{connection.info.server_version / 10000:.4f} at the address in {DSN_VARIABLE}"
    if version := wanted_version():
        return f"{POSTGRES_BINARIES[version]} from Maven Central"
    if docker_answers():
        return f"{POSTGRES_IMAGE} in Docker"
    return f"{embedded_version()} embedded"


def migrate(dsn: str) -> None:
    """Installs the schema the way an operator does."""
    run_tallystream("migrate", env={"TALLYSTREAM_POSTGRES_DSN": dsn, "TALLYSTREAM_SCHEMA_NAME": SCHEMA}).check()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The administrator's DSN of the session's server."""
    with contextlib.ExitStack() as stack:
        yield _server(stack)


@pytest.fixture(scope="session")
def databases(postgres_server: str) -> Iterator[Databases]:
    made = Databases(postgres_server)
    yield made
    made.close()


@pytest.fixture(scope="session")
def migrated_template(databases: Databases) -> Iterator[Database]:
    """Migrated once; every test's database is a copy of it, which costs a few hundredths of a second."""
    template = databases.create()
    migrate(template.dsn)
    yield template
    databases.drop(template)


@pytest.fixture
def empty_database(databases: Databases) -> Iterator[Database]:
    """A database that nobody has migrated."""
    fresh = databases.create()
    yield fresh
    databases.drop(fresh)


@pytest.fixture
def database(databases: Databases, migrated_template: Database) -> Iterator[Database]:
    """A migrated database of the test's own."""
    fresh = databases.create(migrated_template)
    yield fresh
    databases.drop(fresh)


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    """A running server that belongs to the test: to stop, to kill -9, to start again. Durable, as in production."""
    server = LocalPostgres(wanted_version())
    try:
        server.start()
        yield server
    finally:
        server.close()


@pytest.fixture
def own_database(own_postgres: LocalPostgres) -> Callable[[], Database]:
    """Makes databases on `own_postgres`; nobody drops them, the server goes with them."""
    return Databases(own_postgres.dsn).create


def wanted_version() -> int | None:
    """The version that was asked for; none means the embedded one, or a container's."""
    text = os.environ.get(VERSION_VARIABLE)
    if not text:
        return None
    if text not in map(str, POSTGRES_BINARIES):
        message = f"{VERSION_VARIABLE} is {text!r}; it can be one of {sorted(POSTGRES_BINARIES)}"
        raise pytest.UsageError(message)
    return int(text)


def _server(stack: contextlib.ExitStack) -> str:
    if dsn := os.environ.get(DSN_VARIABLE):
        return dsn
    version = wanted_version()
    if version is None and docker_answers():
        return _in_docker(stack)
    server = LocalPostgres(version, durable=False)
    stack.callback(server.close)
    server.start()
    return server.dsn


def _in_docker(stack: contextlib.ExitStack) -> str:
    port = free_ports(1)[0]
    stack.enter_context(container(POSTGRES_IMAGE, port, 5432, {"POSTGRES_PASSWORD": PASSWORD}))
    dsn = make_conninfo(host="127.0.0.1", port=port, user="postgres", password=PASSWORD, dbname="postgres")

    def answers() -> bool:
        with contextlib.suppress(psycopg.OperationalError), psycopg.connect(dsn, connect_timeout=2):
            return True
        return False

    wait_until(answers, CONTAINER_READY_TIMEOUT_S, "PostgreSQL in Docker answers")
    return dsn
