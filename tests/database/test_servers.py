"""Another server behind the same name: a standby, a promoted one, an old primary, another cluster, a restored copy."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.domain.plans import Outcome
from ingest.errors import OperatorError, TransientError
from tests.support.local_postgres import LocalPostgres
from tests.support.pipeline import TOPIC, Pipeline, line, movement, repost, unpost
from tests.support.postgres import PASSWORD, Database, Databases, migrate
from tests.support.program import Program, run_tallystream
from tests.support.waiting import wait_until

# Everything that could differ between a database in which something failed and one in which nothing ever did.
DIGEST = """
    SELECT 'journal', recorder, period::text, product, lot, quantity::text, topic, event_offset FROM inventory_journal
    UNION ALL SELECT 'balance', NULL, NULL, product, lot, quantity::text, NULL, NULL FROM inventory_balances
    UNION ALL SELECT 'day', NULL, period::text, product, lot, quantity::text, NULL, NULL FROM inventory_turnovers_day
    UNION ALL SELECT 'position', topic, NULL, partition, NULL, next_offset::text, topic_id, NULL FROM _positions
    UNION ALL SELECT 'letter', reason, NULL, NULL, NULL, NULL, NULL, event_offset FROM _dead_letters
    ORDER BY 1, 2, 3, 4, 5, 6, 7, 8
"""
RECOVERS = "SELECT pg_is_in_recovery()"
CAUGHT_UP = "SELECT replay_lsn >= %s::pg_lsn FROM pg_stat_replication"


@pytest.fixture
def servers() -> Iterator[Callable[..., LocalPostgres]]:
    """Makes servers of the embedded version, started; they end with the test."""
    made: list[LocalPostgres] = []

    def make(follows: LocalPostgres | None = None) -> LocalPostgres:
        made.append(LocalPostgres(durable=False, follows=follows))
        made[-1].start()
        return made[-1]

    yield make
    for server in made:
        server.close()


def ask(server: LocalPostgres, statement: str, *parameters: object) -> object:
    """The first column of the answer, as the administrator gets it."""
    with psycopg.connect(server.dsn, autocommit=True) as admin:
        row = admin.execute(statement.encode(), parameters).fetchone()
    return row[0] if row else None


def on(server: LocalPostgres, database: Database) -> Database:
    """The same database on a server that follows its own."""
    there = conninfo_to_dict(server.dsn)
    dsns = (make_conninfo(dsn, host=there["host"], port=there["port"]) for dsn in (database.dsn, database.admin_dsn))
    return Database(database.name, database.owner, *dsns)


def on_either(first: LocalPostgres, second: LocalPostgres, database: Database) -> str:
    """A DSN with both; whichever takes writes is taken."""
    parts = [conninfo_to_dict(server.dsn) for server in (first, second)]
    hosts, ports = (",".join(str(part[name]) for part in parts) for name in ("host", "port"))
    return make_conninfo(database.dsn, host=hosts, port=ports)


def send(pipeline: Pipeline) -> None:
    """Events of every kind, a bad one, and one that comes twice."""
    for number in range(10):
        pipeline.send(movement(f"r{number % 7}", line(number % 3, str(number + 1)), id=f"m{number}"))
    pipeline.send(repost("r1", line(2, "7")), unpost("r2"), b"bad", movement("r5", line(1, "2"), id="again"))
    pipeline.send(movement("r5", line(1, "2"), id="again"))


def environment(dsn: str) -> dict[str, str]:
    """What a worker needs to be told; no broker is there."""
    broker = {"TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9", "TALLYSTREAM_TOPICS": TOPIC}
    return {"TALLYSTREAM_POSTGRES_DSN": dsn, **broker}


@pytest.mark.scenario("P8", "P9", "P10")
def test_a_primary_is_replaced_by_a_standby_that_lacks_its_last_commits(
    servers: Callable[..., LocalPostgres], program: Callable[..., Program]
) -> None:
    """Nobody writes to a standby or to a primary that was replaced; what the new one lacks is applied again."""
    primary = servers()
    database = Databases(primary.dsn).create()
    migrate(database.dsn)
    standby = servers(primary)
    pipeline = Pipeline(database)
    send(pipeline)
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(most=9))
    here = ask(primary, "SELECT pg_current_wal_lsn()::text")
    wait_until(lambda: ask(primary, CAUGHT_UP, here) is True, 30, "the standby has caught up")
    # A standby alone: refused before anything is asked of it.
    with pytest.raises(TransientError, match="read-only"):
        pipeline.store(dsn=on(standby, database).dsn).claim(pipeline.bounds())
    worker = program("run", env=environment(on(standby, database).dsn))
    waiting = worker.wait_for_log(event="PostgreSQL is not available, waiting", count=2)
    assert "session is read-only" in waiting["error"]
    assert worker.terminate() == 0
    # Both by name, the standby first: whichever takes writes. What comes now the standby never gets.
    consumer.store = pipeline.store(dsn=on_either(standby, primary, database))
    consumer.claim()
    standby.stop()
    consumer.apply()
    complete = pipeline.rows(DIGEST)
    primary.stop()
    standby.start()
    ask(standby, "SELECT pg_promote()")
    wait_until(lambda: ask(standby, RECOVERS) is False, 30, "the standby is promoted")
    pipeline.send(movement("r9", line(1, "1")))
    with pytest.raises(TransientError):
        consumer.apply()
    (claim,) = consumer.store.claim(pipeline.bounds()).taken
    assert claim.next_offset == 9
    consumer.claims = {claim.topic_partition: claim}
    last = pipeline.log[claim.topic_partition].pop()
    consumer.apply()
    pipeline.database = on(standby, database)
    assert pipeline.rows(DIGEST) == complete
    pipeline.log[claim.topic_partition].append(last)
    consumer.apply()
    # The old primary comes back and still takes writes: whoever has seen its successor does not.
    standby.stop()
    primary.start()
    consumer.store.close()
    with pytest.raises(TransientError, match="was replaced as primary: its timeline is 1, and 2 was seen"):
        consumer.store.claim(pipeline.bounds())
    pipeline.close()


@pytest.mark.scenario("P10")
def test_another_cluster_behind_the_same_name(servers: Callable[..., LocalPostgres]) -> None:
    """Its positions mean nothing here: the process stops and says so, and nothing was written."""
    one, other = servers(), servers()
    database = Databases(one.dsn).create()
    migrate(database.dsn)
    pipeline = Pipeline(database)
    consumer = pipeline.consumer()
    send(pipeline)
    consumer.apply(consumer.batch(most=3))
    consumer.store.close()
    consumer.store.database = pipeline.store(dsn=other.dsn).database
    with pytest.raises(OperatorError, match="another PostgreSQL server: its system identifier is"):
        consumer.apply()
    with pytest.raises(OperatorError, match="another PostgreSQL server"):
        consumer.store.claim(pipeline.bounds())
    pipeline.close()


@pytest.mark.scenario("P20", "O6")
def test_a_database_that_was_restored_to_an_earlier_state(databases: Databases, pipeline: Pipeline) -> None:
    """It goes on from its own positions, and ends like one in which nothing was ever lost."""
    send(pipeline)
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(most=9))
    pipeline.close()
    earlier = databases.create(pipeline.database)
    try:
        consumer.apply()
        restored = Pipeline(earlier)
        restored.log = pipeline.log
        second = restored.consumer()
        assert [claim.next_offset for claim in second.claims.values()] == [9]
        assert second.apply().outcomes[Outcome.DUPLICATE] == 1
        assert restored.rows(DIGEST) == pipeline.rows(DIGEST)
        restored.check()
        restored.close()
    finally:
        databases.drop(earlier)


STRICT = {"TALLYSTREAM_ALLOW_PRIVILEGED_ROLE": "false"}


@pytest.mark.scenario("S8")
@pytest.mark.parametrize("command", [("run",), ("compact", "--once")])
def test_who_may_do_everything_is_refused(database: Database, command: tuple[str, ...]) -> None:
    """Superusers, BYPASSRLS, the owner and its members: nothing is started, and the message says what to do."""
    role = f"plain_{database.name}"
    env = {**environment(make_conninfo(database.dsn, user=role)), **STRICT}
    owner = {**env, "TALLYSTREAM_POSTGRES_DSN": database.dsn}
    disguised = {**env, "TALLYSTREAM_POSTGRES_DSN": make_conninfo(database.admin_dsn, options=f"-c role={role}")}
    powers = {
        "is a superuser": ("SUPERUSER", "NOSUPERUSER"),
        "has BYPASSRLS": ("BYPASSRLS", "NOBYPASSRLS"),
    }
    with database.connect_as_admin() as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{PASSWORD}'".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA accum TO {role}".encode())
        admin.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA accum TO {role}".encode())
        try:
            for power, (given, taken) in powers.items():
                admin.execute(f"ALTER ROLE {role} {given}".encode())
                refused(command, env, f"the role {role} {power}")
                admin.execute(f"ALTER ROLE {role} {taken}".encode())
            refused(command, owner, f"the role {database.owner} owns tables of the schema")
            refused(command, disguised, "is a superuser")
            admin.execute(f"GRANT {database.owner} TO {role}".encode())
            refused(command, env, f"the role {role} owns tables of the schema")
        finally:
            admin.execute(f"DROP OWNED BY {role}".encode())
            admin.execute(f"DROP ROLE {role}".encode())


def refused(command: tuple[str, ...], env: dict[str, str], why: str) -> None:
    """With the exit code of what a person has to mend, and how."""
    said = run_tallystream(*command, env=env).check(2).err
    assert why in said
    assert "connect as tallystream_ingest" in said
    assert "allow_privileged_role" in said


@pytest.mark.scenario("S8")
def test_who_may_do_everything_can_be_allowed_to(database: Database) -> None:
    """By a setting of that name, and the log says that it was used."""
    done = run_tallystream("compact", "--once", env=environment(database.dsn)).check()
    assert "this role may do more than workers and the compactor need" in done.err


@pytest.mark.scenario("P16")
def test_no_more_connections(pipeline: Pipeline) -> None:
    """A passing failure: nothing is refused, and the batch is applied when there is room again."""
    send(pipeline)
    consumer = pipeline.consumer()
    consumer.store.close()
    with pipeline.database.connect_as_admin() as admin:
        admin.execute(f"ALTER DATABASE {pipeline.database.name} CONNECTION LIMIT 0".encode())
        with pytest.raises(TransientError, match="too many connections"):
            consumer.apply(consumer.batch())
        admin.execute(f"ALTER DATABASE {pipeline.database.name} CONNECTION LIMIT -1".encode())
    consumer.apply()
    pipeline.check()


@pytest.mark.scenario("P2", "P4")
@pytest.mark.parametrize("how", ["kill -9 of one backend", "fast", "immediate"])
def test_a_server_that_goes_and_comes_back(
    own_postgres: LocalPostgres, own_database: Callable[[], Database], how: str
) -> None:
    """All sessions end, whoever it was; the worker's next try applies what is left, once."""
    database = own_database()
    migrate(database.dsn)
    pipeline = Pipeline(database)
    send(pipeline)
    consumer = pipeline.consumer()
    consumer.apply(consumer.batch(most=5))
    batch = consumer.batch()
    if how == "fast":
        own_postgres.restart()
    elif how == "immediate":
        assert own_postgres._server is not None
        own_postgres._server.stop(signal.SIGQUIT)
        own_postgres.start()
    else:
        with psycopg.connect(own_postgres.dsn, autocommit=True) as victim:
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                victim.execute("SELECT 1")
    with pytest.raises(TransientError):
        consumer.apply(batch)

    def again() -> bool:
        with contextlib.suppress(TransientError):
            consumer.claim()
            return True
        return False

    wait_until(again, 30, "the server answers again")
    consumer.apply()
    pipeline.check()
    assert pipeline.count("inventory_movements") == 8
    pipeline.close()


@pytest.mark.scenario("P11")
def test_commits_that_are_not_durable(own_postgres: LocalPostgres, own_database: Callable[[], Database]) -> None:
    """With synchronous_commit off a crash loses the last batches whole, positions included; they are applied again."""
    database = own_database()
    migrate(database.dsn)
    pipeline = Pipeline(database)
    with psycopg.connect(own_postgres.dsn, autocommit=True) as admin:
        admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        admin.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = off".encode())
    own_postgres.restart()
    send(pipeline)
    consumer = pipeline.consumer()
    for _ in range(4):
        consumer.apply(consumer.batch(most=3))
    reached = pipeline.value("SELECT sum(next_offset)::int FROM _positions")
    own_postgres.kill()
    own_postgres.start()
    recovered = pipeline.value("SELECT coalesce(sum(next_offset), 0)::int FROM _positions")
    assert recovered <= reached
    pipeline.check()
    consumer = pipeline.consumer()
    consumer.apply()
    pipeline.check()
    assert pipeline.count("inventory_movements") == 8
    pipeline.close()


@pytest.mark.scenario("O9")
def test_a_password_that_is_changed(own_postgres: LocalPostgres, own_database: Callable[[], Database]) -> None:
    """Who is connected goes on; who comes back with the old one waits with the reason, and the next one has the new."""
    database = own_database()
    migrate(database.dsn)
    hba = own_postgres.data / "pg_hba.conf"
    rule = f"host {database.name} {database.owner} 127.0.0.1/32 scram-sha-256\n"
    hba.write_text(rule + hba.read_text(encoding="utf-8"), encoding="utf-8")

    def change(password: str) -> str:
        with psycopg.connect(own_postgres.dsn, autocommit=True) as admin:
            admin.execute(f"ALTER ROLE {database.owner} PASSWORD '{password}'".encode())
            admin.execute("SELECT pg_reload_conf()")
        return make_conninfo(database.dsn, host="127.0.0.1", password=password)

    pipeline = Pipeline(database)
    old = pipeline.consumer(dsn=change("first"))
    pipeline.send(movement("r1", line(1, "5")))
    old.apply()
    new_dsn = change("second")
    pipeline.send(movement("r2", line(1, "7")))
    old.apply()
    old.store.close()
    pipeline.send(movement("r3", line(1, "1")))
    with pytest.raises(TransientError, match="password authentication failed"):
        old.apply(old.batch())
    new = pipeline.consumer(dsn=new_dsn)
    new.apply()
    pipeline.check()
    assert pipeline.count("inventory_movements") == 3
    pipeline.close()
