"""What a process finds around it changes while it runs: the wall clock, and where a name leads."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from tests.acceptance.test_health import records
from tests.support.lacking import skip_for
from tests.support.local_postgres import LocalPostgres
from tests.support.postgres import Database, Databases, migrate
from tests.support.processes import is_root
from tests.support.program import Program
from tests.support.stream import HIGH_WRITE_INVENTORY, INVENTORY, Stream
from tests.support.waiting import wait_until
from tests.support.wall_clock import WallClock

pytestmark = pytest.mark.slow

TIMEOUT_S = 60
NAME = "primary.tallystream.test"
# Another address of this machine, and another server there.
OTHER_ADDRESS = "127.0.0.2"
# In a file system table of its own the program sees another list of names, and nobody else does.
WITH_NAMES = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"']


def counted(stream: Stream) -> object:
    """How many movements there are, of which instants, and their sum."""
    with stream.database.connect() as connection:
        return connection.execute(
            "SELECT count(*)::int, array_agg(DISTINCT period), sum(quantity) FROM accum.inventory_journal"
        ).fetchone()


@pytest.mark.scenario("W7")
def test_the_wall_clock_jumps(stream: Stream, wall_clock: WallClock) -> None:
    """Back, forward, and beyond what fits into 32 bits: nothing stalls, and periods are what the events say."""
    stream.declare(HIGH_WRITE_INVENTORY)
    env = {**stream.env, **wall_clock.env}
    worker, compactor = stream.start("run", env=env), stream.start("compact", env=env)
    stream.workers = [worker, compactor]
    worker.wait_for_log(event="partitions assigned")
    hour, years = timedelta(hours=1), timedelta(days=20 * 365)
    for number, ahead in enumerate((timedelta(0), -hour, timedelta(days=1), years, -hour, years)):
        wall_clock.set(ahead)
        stream.produce_keyed(records(50 * number, 50))
        wait_until(lambda: stream.read() == stream.end(), TIMEOUT_S, f"everything is read, {ahead} off")
    wait_until(lambda: pending(stream) == 0, TIMEOUT_S, "all deltas are folded")
    stream.stop()
    (stopped,) = worker.logged(event="stopped")
    assert int(stopped["timestamp"][:4]) > 2038, "the clock did not jump: this run shows nothing"
    assert (stopped["events"], stopped["retries"], stopped["fenced"]) == (300, 0, 0)
    assert len(worker.logged(event="partitions assigned", logger="ingest.kafka.rebalance")) == 1
    assert counted(stream) == (300, [datetime(2026, 4, 18, 10, tzinfo=UTC)], 300 * 100)
    stream.run("verify").check()


def pending(stream: Stream) -> int:
    """Deltas that nobody has folded yet."""
    with stream.database.connect() as connection:
        row = connection.execute("SELECT count(*) FROM accum.inventory_balance_cache_delta").fetchone()
    return int(row[0]) if row else 0


@pytest.fixture
def pair() -> Iterator[tuple[LocalPostgres, LocalPostgres]]:
    """A primary, and its standby with the same port at another address."""
    first = LocalPostgres(durable=False)
    first.start()
    second = LocalPostgres(durable=False, follows=first, settings={"listen_addresses": OTHER_ADDRESS})
    second.port = first.port
    try:
        second.start()
        yield first, second
    finally:
        second.close()
        first.close()


@pytest.mark.scenario("N8")
def test_a_name_that_leads_to_another_server(
    stream: Stream, pair: tuple[LocalPostgres, LocalPostgres], program: Callable[..., Program], tmp_path: Path
) -> None:
    """After a fail-over it leads to the new primary: whoever connects again looks it up again, and goes on there."""
    if not is_root():
        skip_for("only root can give a program names of its own")
    first, second = pair
    names = tmp_path / "hosts"
    names.write_text(f"127.0.0.1 localhost {NAME}\n", encoding="ascii")
    stream.database = Databases(first.dsn).create()
    migrate(stream.database.dsn)
    stream.declare(INVENTORY)
    dsn = make_conninfo(stream.database.dsn, host=NAME)
    env = {**stream.env, "TALLYSTREAM_POSTGRES_DSN": dsn, "TALLYSTREAM_RETRY_MAX_MS": "500"}
    worker = program("run", env=env, inside=[*WITH_NAMES, str(names)])
    stream.workers.append(worker)
    stream.produce_keyed(records(0, 100))
    stream.wait_until_read()

    follow(first, second)
    first.stop()
    stream.database = at(second, stream.database)
    with stream.database.connect_as_admin() as admin:
        admin.execute("SELECT pg_promote()")
    stream.produce_keyed(records(100, 100))
    names.write_text(f"127.0.0.1 localhost\n{OTHER_ADDRESS} {NAME}\n", encoding="ascii")
    stream.wait_until_read()
    stream.stop()
    assert counted(stream) == (200, [datetime(2026, 4, 18, 10, tzinfo=UTC)], 200 * 100)
    stream.run("verify").check()


def follow(first: LocalPostgres, second: LocalPostgres) -> None:
    """Until the standby has everything."""

    def has_all() -> bool:
        with psycopg.connect(first.dsn) as primary, psycopg.connect(second.dsn) as standby:
            (written,) = primary.execute("SELECT pg_current_wal_lsn()").fetchone() or (None,)
            (has,) = standby.execute("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", [written]).fetchone() or (False,)
        return bool(has)

    wait_until(has_all, TIMEOUT_S, "the standby has everything")


def at(server: LocalPostgres, database: Database) -> Database:
    """The same database there."""
    dsns = (make_conninfo(dsn, host=str(server.folder)) for dsn in (database.dsn, database.admin_dsn))
    return Database(database.name, database.owner, *dsns)
