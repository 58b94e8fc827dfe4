"""An upgrade beside workers that run, and going back: the old version keeps working, or stops and says why."""

import psycopg
import pytest

from ingest.errors import RegistryChangedError
from tests.support.pipeline import Pipeline, line, movement, repost
from tests.support.postgres import SCHEMA, Database
from tests.support.program import run_tallystream

DSN = "TALLYSTREAM_POSTGRES_DSN"
BROKER = {"TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "TALLYSTREAM_TOPICS": "events"}


def migrations(database: Database) -> list[tuple[object, ...]]:
    """What the database says was applied to it."""
    with psycopg.connect(database.dsn) as connection:
        statement = f"SELECT name, digest FROM {SCHEMA}._migrations ORDER BY name"  # noqa: S608 - a schema of ours
        return connection.execute(statement.encode()).fetchall()


def pretend(database: Database, statement: str, *parameters: object) -> None:
    """Makes the database what another version would have left behind."""
    with psycopg.connect(database.dsn) as connection:
        connection.execute(statement.replace("SCHEMA", SCHEMA).encode(), parameters)


@pytest.mark.scenario("O1")
def test_an_upgrade_beside_a_worker(pipeline: Pipeline) -> None:
    """All functions and triggers are renewed between two batches of one store; one decoded before is decoded again."""
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line(1, "5")), movement("r2", line(2, "7")))
    consumer.apply()
    pipeline.send(repost("r1", line(1, "3")))
    decoded_before = consumer.batch()
    pretend(
        pipeline.database, "UPDATE SCHEMA._migrations SET digest = 'of the version before' WHERE name = 'functions'"
    )
    renewed = run_tallystream("migrate", env={DSN: pipeline.database.dsn}).check()
    assert "functions" in renewed.out
    with pytest.raises(RegistryChangedError):
        consumer.apply(decoded_before)
    pipeline.registry = consumer.store.registry()
    consumer.apply()
    pipeline.send(movement("r3", line(1, "1")), b"bad")
    consumer.apply()
    pipeline.check()
    assert {row[1]: int(value) for row, value in pipeline.balances().items()} == {1: 4, 2: 7}


@pytest.mark.scenario("O3")
def test_a_downgrade_is_refused(database: Database) -> None:
    """A schema of a newer version is not written to, nor changed: the message names what this version does not know."""
    pretend(database, "INSERT INTO SCHEMA._migrations (name, digest) VALUES ('9999_of_the_future', 'unknown')")
    before = migrations(database)
    for command in (["migrate"], ["run"], ["compact", "--once"]):
        refused = run_tallystream(*command, env={DSN: database.dsn, **BROKER}).check(2)
        assert "migrated by a newer tallystream (9999_of_the_future); use that version" in refused.err
    assert migrations(database) == before
