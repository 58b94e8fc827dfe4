"""The PostgreSQL fixtures keep what they promise: the other tests build on it."""

import psycopg
import pytest

from tests.support.local_postgres import LocalPostgres
from tests.support.postgres import Database, Databases


def test_a_database_belongs_to_an_ordinary_role(empty_database: Database) -> None:
    """The owner can do what an owner can, and nothing that a superuser can."""
    with empty_database.connect() as connection:
        rights = connection.execute(
            "SELECT rolsuper, rolcreatedb, rolcreaterole, rolbypassrls FROM pg_roles WHERE rolname = current_user"
        ).fetchone()
        assert rights == (False, False, False, False)
        connection.execute("CREATE SCHEMA mine")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE ROLE other SUPERUSER")


def test_databases_know_nothing_of_each_other(databases: Databases) -> None:
    """What one test leaves, another never sees; a template's content is there in the copy."""
    template = databases.create()
    with template.connect() as connection:
        connection.execute("CREATE TABLE mark AS SELECT 1 AS one")
    copy, other = databases.create(template), databases.create()
    with copy.connect() as connection, other.connect() as elsewhere:
        assert connection.execute("SELECT one FROM mark").fetchone() == (1,)
        assert elsewhere.execute("SELECT to_regclass('mark')").fetchone() == (None,)
    for one in (template, copy, other):
        databases.drop(one)


def test_a_killed_server_comes_back_with_what_was_committed(own_postgres: LocalPostgres) -> None:
    """kill -9 of the whole server, while a session is open: committed rows stay, the open transaction is gone."""
    with psycopg.connect(own_postgres.dsn, autocommit=True) as connection:
        connection.execute("CREATE TABLE mark (n int)")
        connection.execute("INSERT INTO mark VALUES (1)")
    unfinished = psycopg.connect(own_postgres.dsn)
    unfinished.execute("INSERT INTO mark VALUES (2)")
    own_postgres.kill()
    own_postgres.start()
    with pytest.raises(psycopg.OperationalError):
        unfinished.execute("SELECT 1")
    unfinished.close()
    with psycopg.connect(own_postgres.dsn) as connection:
        assert connection.execute("SELECT n FROM mark").fetchall() == [(1,)]
