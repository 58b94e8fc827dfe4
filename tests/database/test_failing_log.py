"""The server's log cannot be written: it panics, and whether the commit took place is for the positions to tell."""

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from ingest.domain.applying import Standing
from ingest.domain.batches import Batch
from ingest.errors import TransientError
from tests.support.lacking import skip_for
from tests.support.local_postgres import UNPRIVILEGED_USER, LocalPostgres
from tests.support.pipeline import Consumer, Pipeline, line, movement, repost, unpost
from tests.support.postgres import Database, Databases, migrate
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

STRACE_TIMEOUT_S = 30
RECOVERED_TIMEOUT_S = 60
# Some of the server's log files of 16 MB.
LOG_MB = 80


@contextlib.contextmanager
def failing_syncs(pid: int, log: Path) -> Iterator[None]:
    """Has every fsync of a process fail, as on a disk that is broken."""
    if shutil.which("strace") is None:
        skip_for("strace is not installed, which has a system call fail (apt install strace)")
    with log.open("wb") as output:
        command = ["strace", "-p", str(pid), "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO"]
        tracing = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        wait_until(lambda: tracing.poll() is not None or b"attached" in log.read_bytes(), STRACE_TIMEOUT_S, "strace")
        if tracing.poll() is not None:
            skip_for(f"strace cannot watch a process here: {log.read_text()}")
        yield
    finally:
        tracing.terminate()
        tracing.wait(STRACE_TIMEOUT_S)


def started(database: Database) -> tuple[Pipeline, Consumer]:
    """One batch applied, more to come, and the balances that are to be in the end."""
    migrate(database.dsn)
    pipeline = Pipeline(database)
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line(1, "1")), movement("r2", line(2, "10")), movement("r3", line(3, "7")))
    consumer.apply()
    pipeline.send(movement("r1", line(1, "2")), repost("r2", line(2, "20")), unpost("r3"))
    return pipeline, consumer


def check(pipeline: Pipeline) -> None:
    """Everything of `started` was applied, once."""
    assert {key: value for key, value in pipeline.balances().items() if value} == {(1, 1, "A"): 3, (1, 2, "A"): 20}
    pipeline.check()


def standing_after_recovery(consumer: Consumer, batch: Batch) -> Standing:
    """What the positions say, once they can be asked again."""
    found: list[Standing] = []

    def ask() -> bool:
        with contextlib.suppress(TransientError):
            found.append(consumer.store.standing(batch))
        return bool(found)

    wait_until(ask, RECOVERED_TIMEOUT_S, "the server has recovered")
    return found[0]


@pytest.mark.scenario("P5")
def test_a_log_that_cannot_be_synced(
    own_postgres: LocalPostgres, own_database: Callable[[], Database], tmp_path: Path
) -> None:
    """The server panics in the commit, which looks as if it had failed, and is there after the recovery."""
    pipeline, consumer = started(own_database())
    batch = consumer.batch()
    connection = consumer.store._connected()
    with failing_syncs(connection.info.backend_pid, tmp_path / "strace"), pytest.raises(TransientError):
        consumer.apply(batch)
    assert "PANIC:  could not fdatasync file" in own_postgres.said
    standing = standing_after_recovery(consumer, batch)
    assert standing is Standing.COMMITTED
    consumer.advance(batch)
    pipeline.send(movement("r1", line(1, "0")))
    consumer.apply()
    check(pipeline)
    pipeline.close()


@pytest.mark.scenario("P7")
def test_a_full_disk_under_the_servers_log(small_log: tuple[LocalPostgres, Path]) -> None:
    """The server panics and does not come up before there is room; then it goes on from what was committed, exactly."""
    server, disk = small_log
    pipeline, consumer = started(Databases(server.dsn).create())
    filler = disk / "filler"
    filler.write_bytes(b"\0" * shutil.disk_usage(disk).free)
    batch = consumer.batch()
    with psycopg.connect(server.dsn, autocommit=True) as admin, pytest.raises(psycopg.OperationalError):
        # More than the present file of the log has room for, and the next one has none.
        admin.execute("CREATE TABLE much AS SELECT repeat('x', 500) FROM generate_series(1, 100000)")
    with pytest.raises(TransientError):
        consumer.apply(batch)
    assert "No space left on device" in server.said
    with pytest.raises(TransientError):
        consumer.store.standing(batch)
    filler.unlink()
    server.kill()
    server.start()
    assert standing_after_recovery(consumer, batch) is Standing.NOT_COMMITTED
    consumer.apply(batch)
    check(pipeline)
    pipeline.close()


@pytest.fixture
def small_log(small_disk: Callable[[int], Path]) -> Iterator[tuple[LocalPostgres, Path]]:
    """A server whose log is on a disk of its own, and that disk."""
    disk = small_disk(LOG_MB)
    server = LocalPostgres(settings={"min_wal_size": "32MB", "max_wal_size": "32MB", "wal_recycle": "off"})
    try:
        there = disk / "pg_wal"
        shutil.move(server.data / "pg_wal", there)
        for path in (there, *there.rglob("*")):
            shutil.chown(path, UNPRIVILEGED_USER)
        (server.data / "pg_wal").symlink_to(there)
        server.start()
        yield server, disk
    finally:
        server.close()
