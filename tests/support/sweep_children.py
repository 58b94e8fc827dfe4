"""What a sweep breaks: the product's worker, compactor and migration, each in a process of its own that may be killed.

They are the product's parts, put together as `ingest.wiring` does it, with two exceptions: connections are of a class
that comes to failpoints, and the worker's records come from memory instead of a broker.
"""

import contextlib
import os
import random
import signal
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum, auto
from multiprocessing.connection import Connection as Channel
from pathlib import Path

import psycopg
import structlog

from ingest.compactor import Chore, Compactor, CompactorLimits
from ingest.domain.applying import Registry
from ingest.domain.batches import BatchLimits, Decoded
from ingest.domain.compacting import Record
from ingest.domain.decoding import Decoder
from ingest.domain.messages import Message
from ingest.domain.positions import TopicPartition
from ingest.observability.logs import configure_logs
from ingest.postgres import migrations
from ingest.postgres.apply import BatchStore
from ingest.postgres.compacting import DeltaStore
from ingest.postgres.connections import Connection, Database
from ingest.postgres.contention import ContentionWatch
from ingest.postgres.housekeeping import Housekeeper
from ingest.postgres.registers import read_registry
from ingest.wiring.parts import SteadyClock, Threads
from ingest.worker import Worker, WorkerLimits
from tests.support.failpoints import Failpoints, watched
from tests.support.fakes import FakeSource
from tests.support.pipeline import GROUP

Log = Mapping[TopicPartition, Sequence[Message]]

RECORDS_OF_A_POLL = 8
DELTAS_OF_A_SLICE = 2
ANSWER_TIMEOUT_S = 120

_log = structlog.get_logger(__name__)


class Fault(StrEnum):
    """What happens at a failpoint."""

    RAISE = auto()  # an exception that nobody foresaw
    REFUSE = auto()  # the server answers with a passing error: deadlock, serialization, lock, shutdown, resources
    KILL_SELF = auto()  # kill -9 of the process
    KILL_POSTGRES = auto()  # kill -9 of the server with all its processes
    KILL_BACKEND = auto()  # kill -9 of the session's own process: the server ends all others, and recovers
    TERMINATE = auto()  # an administrator ends the session
    SHUT_DOWN = auto()  # the server is shut down and started again: fast
    SHUT_DOWN_NOW = auto()  # the same, immediate
    CUT = auto()  # the connection breaks before the statement
    LOSE_REPLY = auto()  # the statement arrives, and its answer does not
    HANG = auto()  # the process stands still, and another one does its work; then it goes on
    REVOKE = auto()  # the group takes the partitions away, and another worker reads on


class Subject(StrEnum):
    """What is broken."""

    WORKER = auto()
    COMPACTOR = auto()
    INSTALLATION = auto()
    UPGRADE = auto()


# Passing errors as the server says them (W11): deadlock, serialization, lock, timeout, shutdown, no room for sessions.
PASSING = ("40P01", "40001", "55P03", "57014", "57P01", "53300")


@dataclass(frozen=True, slots=True)
class Job:
    """What a child does, over which connection, and at which failpoint it fails and how."""

    subject: Subject
    dsn: str
    log: Log
    # How long a statement may take, and so how long a session that hangs keeps its locks.
    timeout_ms: int
    at: int | None = None
    fault: Fault | None = None
    relayed: Path | None = None
    # Where the child says what happened: a file, since nobody reads what it prints.
    logs: Path | None = None


class UnforeseenError(Exception):
    """A defect."""


def child(job: Job, channel: Channel) -> None:
    """Do the job, and then tell which failpoints there were."""
    if job.logs is not None:
        output = os.open(job.logs, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1)
        os.dup2(output, 2)
    configure_logs("debug", "json")
    random.seed(0)  # which register the compactor begins with: a failpoint's number always means the same
    breaker = Breaker(job, channel)
    access = Database(
        job.dsn,
        statement_timeout_ms=job.timeout_ms,
        lock_timeout_ms=job.timeout_ms,
        connection_class=watched(breaker.failpoints),
    )
    SUBJECTS[job.subject](job, access, breaker)
    channel.send(("done", breaker.failpoints.seen))


class Breaker:
    """Acts at the failpoint, with the parent's help where it takes another process."""

    def __init__(self, job: Job, channel: Channel) -> None:
        self.failpoints = Failpoints(job.at, self._act)
        self.revoked = threading.Event()
        self.revoking = threading.Event()
        self._job = job
        self._channel = channel

    def _act(self, name: str, connection: Connection) -> None:
        fault = self._job.fault
        _log.warning("failpoint", name=name, fault=fault)
        self._channel.send(("reached", name))
        if fault is Fault.RAISE:
            raise UnforeseenError(name)
        if fault is Fault.KILL_SELF:
            os.kill(os.getpid(), signal.SIGKILL)
        elif fault is Fault.REFUSE:
            self._refuse(name, connection)
        elif fault is Fault.CUT:
            cut(connection)
        elif fault is Fault.REVOKE:
            self._revoke()
        self._channel.send(("now", (fault, connection.info.backend_pid)))
        if not self._channel.poll(ANSWER_TIMEOUT_S):
            raise UnforeseenError("the parent does not answer")
        self._channel.recv()

    def _refuse(self, name: str, connection: Connection) -> None:
        sqlstate = PASSING[(self._job.at or 0) % len(PASSING)]
        if ": " in name:
            # In a COPY nothing else can be sent.
            raise psycopg.errors.lookup(sqlstate)("injected")
        # In a pipeline the server's answer comes later, as it would.
        psycopg.Cursor(connection).execute(
            f"DO $$ BEGIN RAISE EXCEPTION 'injected' USING ERRCODE = '{sqlstate}'; END $$".encode()
        )

    def _revoke(self) -> None:
        self.revoked.set()
        if threading.current_thread() is not threading.main_thread():
            self.revoking.wait(ANSWER_TIMEOUT_S)


def cut(connection: Connection) -> None:
    """Break a connection so that both sides notice."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as link:
        link.shutdown(socket.SHUT_RDWR)


class LogSource(FakeSource):
    """A group that may take everything away for good; a test that hangs for a while may poll for a while."""

    def poll(self, max_messages: int, timeout_s: float) -> Sequence[Message]:
        self.polls = 0
        # The poll that brings partitions brings no records, the next one as many as there may be and not one: batches
        # are large, and the same in every run.
        most = RECORDS_OF_A_POLL if max_messages == 1 else max_messages
        return super().poll(0 if self._waiting else most, timeout_s)

    def take_away(self) -> None:
        self._on_revoked(list(self._next), False)  # noqa: FBT003 - as the source does it
        self.revoked.update(self.log)
        self._next.clear()


def work(job: Job, access: Database, breaker: Breaker) -> None:
    """A worker that reads the log to its end, or until its partitions are taken away."""
    limits = WorkerLimits(
        batch=BatchLimits(max_events=RECORDS_OF_A_POLL, max_age_ms=0),
        poll_max_messages=RECORDS_OF_A_POLL,
        retry_initial_ms=10,
        retry_max_ms=200,
        revoke_budget_ms=2_000,
        stop_budget_ms=10_000,
    )
    source = LogSource({topic_partition: list(messages) for topic_partition, messages in job.log.items()})
    store = BatchStore(access, GROUP, f"worker {os.getpid()}")

    def decoding(registry: Registry, message: Message) -> Decoded:
        return Decoder(registry.registers).decode(message)

    worker = Worker(source, [store], decoding, SteadyClock(), limits, Threads())

    def leave() -> None:
        breaker.revoking.set()
        source.take_away()
        worker.stop()

    def look() -> bool:
        if breaker.revoked.is_set() and not breaker.revoking.is_set():
            source.events.append(leave)
            return False
        mirrored: dict[TopicPartition, int] = {}
        for offsets in source.mirrored:
            mirrored |= offsets
        return all(mirrored.get(tp, 0) == len(messages) for tp, messages in source.log.items())

    source.until, source.stop = look, worker.stop
    worker.run()


def compact(job: Job, access: Database, _breaker: Breaker) -> None:
    """A compactor that does everything there is to do, once, and ends."""
    housekeeper = Housekeeper(access)
    watch = ContentionWatch(access, threshold=0.0)
    deltas = DeltaStore(access)

    def deliver(records: Sequence[Record]) -> None:
        assert job.relayed is not None
        with job.relayed.open("a", encoding="utf-8") as file:
            file.writelines(f"{record.key!r} {record.value!r}\n" for record in records)

    def switch() -> int:
        # A switch that failed is for another sample.
        return watch.step() + sum(
            r.high_write_auto and not r.high_write for r in read_registry(access).registers.values()
        )

    steps: dict[str, Callable[[], int]] = {
        "switched": switch,
        "partitions": lambda: housekeeper.create_partitions(2),
        "relayed": lambda: housekeeper.relay(deliver),
        "batches": lambda: housekeeper.roll_up_batches(0),
        "dead_letters": lambda: housekeeper.forget_dead_letters(0, relayed_only=True),
    }
    through: set[str] = set()

    def once(name: str, step: Callable[[], int]) -> Callable[[], int]:
        def run() -> int:
            # One after the other: what is forgotten has to be relayed before.
            if name in through or len(through) < list(steps).index(name):
                return 0
            done = step()
            if not done:
                through.add(name)
            return done

        return run

    def end() -> int:
        if through == set(steps) and not any(pending.deltas for pending in deltas.pending()):
            compactor.stop()
        return 0

    chores = [Chore(name, 1, once(name, step)) for name, step in steps.items()]
    limits = CompactorLimits(
        interval_ms=5,
        min_age_ms=0,
        slice_deltas=DELTAS_OF_A_SLICE,
        vacuum_every_ms=0,
        retry_initial_ms=10,
        retry_max_ms=100,
        report_every_ms=1_000_000,
    )
    compactor = Compactor(deltas, [*chores, Chore("end", 1, end)], SteadyClock(), limits)
    compactor.run()


def migrate(_job: Job, access: Database, _breaker: Breaker) -> None:
    """An installation or an upgrade, and the check that every start begins with."""
    migrations.migrate(access)
    migrations.check(access)


SUBJECTS: Mapping[Subject, Callable[[Job, Database, Breaker], None]] = {
    Subject.WORKER: work,
    Subject.COMPACTOR: compact,
    Subject.INSTALLATION: migrate,
    Subject.UPGRADE: migrate,
}
