"""The sweep: whatever fails at whichever statement, the work is done in the end, and done once.

`make sweep` breaks the worker, the compactor, an installation and an upgrade at every failpoint that they come to, in
every way there is, each time in a database of its own; afterwards it compares every cell, day, month, year, position,
batch and dead letter with the oracle's. It prints how many there were, and writes the same as JSON.

    python -m tests.support.sweep --only worker --fault hang
"""

import argparse
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection as Channel
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Final

import psycopg

from ingest.domain.positions import TopicPartition
from ingest.postgres import migrations
from ingest.postgres.compacting import drain
from tests.support.local_postgres import LocalPostgres
from tests.support.oracle import FLOWS, REGISTERS, STOCK, Object, Oracle, compare
from tests.support.pipeline import TOPIC, Pipeline, access_to
from tests.support.postgres import Database, Databases
from tests.support.proxy import Cut, Proxy
from tests.support.sweep_children import Fault, Job, Log, Subject, child
from tests.support.waiting import wait_until

PARTITIONS: Final = 2
# While a process hangs, nobody may wait for it for longer than this; otherwise a slow machine is no fault.
HANG_TIMEOUT_MS: Final = 1_500
TIMEOUT_MS: Final = 30_000
END_TIMEOUT_S: Final = 120

# Two registers: one folds in the batch, one leaves deltas; and one of them may change its mind.
DECLARED: Final = (replace(STOCK, high_write_auto=True), replace(FLOWS, high_write=True))
HUGE: Final = 9 * 10**18

# What cannot happen where: nobody takes partitions away from a compactor or a migration.
FAULTS: Final[Mapping[Subject, tuple[Fault, ...]]] = {
    Subject.WORKER: tuple(Fault),
    **{
        subject: tuple(fault for fault in Fault if fault is not Fault.REVOKE)
        for subject in (Subject.COMPACTOR, Subject.INSTALLATION, Subject.UPGRADE)
    },
}

DOWN: Final = frozenset({Fault.KILL_POSTGRES, Fault.SHUT_DOWN, Fault.SHUT_DOWN_NOW})
"""The server is started again afterwards; from any other fault it recovers by itself."""

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["tests.support.sweep_children"])


# ------------------------------------------------------------------------------------------------- what there is to do


def event(name: str, kind: str, register: str, recorder: str, *lines: Object, **more: object) -> Object:
    """An event in the middle of a month, unless it says otherwise."""
    body: Object = {"id": name, "type": kind, "register": register, "recorder": recorder}
    if kind != "unpost":
        body |= {"period": "2026-03-29T00:30:00Z", "movements": list(lines)}
    return body | more


def stock(product: int, quantity: str, amount: int = 0, **more: object) -> Object:
    return {"product": product, "lot": "A", "quantity": quantity, "amount": amount, **more}


def flow(product: int, quantity: int, **more: object) -> Object:
    return {"product": product, "quantity": quantity, **more}


DROPPED: Final = "never an event"

# Applied before anything fails: recorders, totals, digests that no longer fit in their recorder's row, a dead letter.
EARLIER: Final[Sequence[Object | bytes]] = (
    event("a1", "movement", "stock", "a", stock(1, "1.5", HUGE), stock(2, "2"), revision=5),
    event("b1", "movement", "stock", "b", stock(1, "10"), stock(2, "20", period="2026-04-30T23:00:00Z")),
    event("c1", "movement", "flows", "c", flow(1, 1), flow(2, 2, period="2026-12-31T23:59:59.999999Z")),
    event("d1", "movement", "flows", "d", flow(1, 10), flow(2, 20)),
    *(event(f"m{number}", "movement", "stock", "m", stock(3, "1")) for number in range(70)),
    DROPPED.encode(),
)

# Applied then: as many digests as fit in a row again, so that the next one spills.
THEN: Final[Sequence[Object | bytes]] = tuple(
    event(f"m{number}", "movement", "stock", "m", stock(3, "1")) for number in range(70, 102)
)

# What the sweep applies: every statement of a batch has something to do here.
LATER: Final[Sequence[Object | bytes]] = (
    event("b2", "repost", "stock", "b", stock(1, "100"), stock(4, "1", period="2026-11-01T05:30:00Z")),
    event("d2", "unpost", "flows", "d"),
    event("f1", "movement", "flows", "f", flow(3, 3)),
    event("c2", "repost", "flows", "c", flow(1, 7), flow(2, -7)),
    event("m0", "movement", "stock", "m", stock(3, "1")),
    event("m102", "movement", "stock", "m", stock(3, "1")),
    event("a2", "movement", "stock", "a", stock(1, "1"), revision=3),
    b"nonsense",
    event("h1", "movement", "stock", "h", stock(2, "4"), stock(5, "5", period="2027-01-01T00:00:00Z")),
    event("b3", "unpost", "stock", "b"),
    event("e1", "movement", "stock", "e", stock(1, "1", HUGE)),  # each of the two fits, their sum does not
    event("d3", "movement", "flows", "d", flow(2, 5)),
    event("c3", "unpost", "flows", "c"),
)
OVERFLOWING: Final = frozenset({"e1"})


def partition_of(value: Object | bytes) -> int:
    return 0 if isinstance(value, bytes) else ord(value["recorder"]) % PARTITIONS


def oracle(*parts: Sequence[Object | bytes]) -> Oracle:
    """What becomes of these events, read once."""
    made = Oracle(overflowing=OVERFLOWING)
    for value in (value for part in parts for value in part):
        made.read(value if isinstance(value, bytes) else json.dumps(value).encode())
    return made


# ------------------------------------------------------------------------------------------------------- the databases


class Bench:
    """A server, and a database in the state in which each subject begins."""

    def __init__(self) -> None:
        self.server = LocalPostgres(durable=False)
        self.server.start()
        self.databases = Databases(self.server.dsn)
        self.folder = Path(tempfile.mkdtemp(prefix="ts-sweep-"))
        self.log: Log = {}
        self.migrated = self.databases.create()
        migrations.migrate(access_to(self.migrated))
        self.signature = signature(self.migrated)
        self.templates = {
            Subject.INSTALLATION: self.databases.create(),
            Subject.WORKER: self._prepared(),
            Subject.COMPACTOR: self._prepared(read=True),
        }
        self.templates[Subject.UPGRADE] = self.databases.create(self.templates[Subject.WORKER])
        with self.templates[Subject.UPGRADE].connect() as owner:
            owner.execute("UPDATE accum._migrations SET digest = 'older' WHERE name = 'functions'")

    def close(self) -> None:
        self.server.close()

    def answers(self) -> bool:
        """Whether the server takes connections."""
        try:
            with self.migrated.connect():
                return True
        except psycopg.OperationalError:
            return False

    def _prepared(self, *, read: bool = False) -> Database:
        """Both registers, and the earlier events applied; `read` is for a compactor, which finds the later ones too."""
        database = self.databases.create(self.migrated)
        pipeline = Pipeline(database, DECLARED, PARTITIONS)
        consumer = pipeline.consumer()
        for part in (EARLIER, THEN, LATER):
            for value in part:
                pipeline.send(value, partition=partition_of(value))
            if part is not LATER or read:
                consumer.apply()
        pipeline.close()
        with database.connect() as owner:
            owner.execute(
                "UPDATE accum._dead_letters SET state = 'dropped', settled_at = now() WHERE event_value = %s",
                [DROPPED.encode()],
            )
            # As if much had been read before: batches are whole.
            owner.execute("UPDATE accum._positions SET attempts = 0")
        self.log = pipeline.log
        return database


SIGNATURE: Final = """
    SELECT 'function', p.oid::regprocedure::text, md5(pg_get_functiondef(p.oid)) FROM pg_proc AS p
    WHERE p.pronamespace = 'accum'::regnamespace
    UNION ALL
    SELECT c.relkind::text, c.relname,
        string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
    FROM pg_class AS c LEFT JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'accum'::regnamespace GROUP BY c.relkind, c.relname
    UNION ALL
    SELECT 'trigger', t.tgname, pg_get_triggerdef(t.oid) FROM pg_trigger AS t
    INNER JOIN pg_class AS c ON c.oid = t.tgrelid WHERE c.relnamespace = 'accum'::regnamespace AND NOT t.tgisinternal
    UNION ALL
    SELECT 'migration', name, digest FROM accum._migrations
    UNION ALL
    SELECT 'template', name, md5(body) FROM accum._templates
    ORDER BY 1, 2, 3
"""


def signature(database: Database) -> list[tuple[Any, ...]]:
    """Everything that a migration makes."""
    with database.connect() as owner:
        return owner.execute(SIGNATURE.encode()).fetchall()


# ------------------------------------------------------------------------------------------------------------ one case


@dataclass(frozen=True, slots=True)
class Case:
    """A failpoint by its number, and what happens there."""

    subject: Subject
    fault: Fault
    at: int
    name: str


@dataclass(slots=True)
class Child:
    """A process of the product, and what it has told so far."""

    process: BaseProcess
    channel: Channel
    reached: str | None = None
    backend: int = 0
    seen: tuple[str, ...] = ()

    @property
    def code(self) -> int | None:
        return self.process.exitcode

    def next_word(self) -> Fault | None:
        """Return the fault that it asks the parent for, or None when it has ended."""
        deadline = time.monotonic() + END_TIMEOUT_S
        while True:
            ready = wait([self.channel, self.process.sentinel], deadline - time.monotonic())
            if not ready:
                self.process.kill()
                message = "a process of the product has not ended"
                raise TimeoutError(message)
            if self.channel not in ready:
                self.process.join()
                return None
            with suppress(EOFError):
                kind, what = self.channel.recv()
                if kind == "now":
                    fault, self.backend = what
                    return Fault(fault)
                if kind == "reached":
                    self.reached = str(what)
                else:
                    self.seen = tuple(what)
                continue
            self.process.join(END_TIMEOUT_S)
            return None

    def go_on(self) -> None:
        self.channel.send("go on")

    def end(self) -> int | None:
        """Wait for its end."""
        while self.next_word() is not None:
            self.go_on()
        return self.code


def start(job: Job) -> Child:
    here, there = _processes.Pipe()
    process = _processes.Process(target=child, args=(job, there), daemon=True)
    process.start()
    there.close()
    return Child(process, here)


class Run:
    """One case in one database: break it, mend what died, and see to it that the work gets done."""

    def __init__(self, bench: Bench, case: Case | None, subject: Subject) -> None:
        self.bench = bench
        self.case = case
        self.subject = subject
        self.database = bench.databases.create(bench.templates[subject])
        self.folder = Path(tempfile.mkdtemp(dir=bench.folder))

    def job(self, **more: Any) -> Job:  # noqa: ANN401 - fields of a job
        log = self.bench.log
        hangs = self.case is not None and self.case.fault is Fault.HANG
        timeout_ms = HANG_TIMEOUT_MS if hangs else TIMEOUT_MS
        relayed, logs = self.folder / "relayed", self.folder / "logs"
        return Job(self.subject, self.database.dsn, log, timeout_ms, relayed=relayed, logs=logs, **more)

    def list_failpoints(self) -> tuple[str, ...]:
        """Do it all without a fault, and tell what was come to."""
        quiet = start(self.job())
        assert quiet.end() == 0, self.said()
        self.check()
        return quiet.seen

    def go(self) -> str:
        """Return the name of the failpoint that was come to."""
        case = self.case
        assert case is not None
        with ExitStack() as stack:
            dsn = self.database.dsn
            proxy = stack.enter_context(Proxy(dsn)) if case.fault is Fault.LOSE_REPLY else None
            job = self.job(at=case.at, fault=case.fault)
            victim = start(replace(job, dsn=proxy.dsn) if proxy else job)
            others: list[Child] = []
            while (fault := victim.next_word()) is not None:
                self.help(fault, victim, proxy, others)
                victim.go_on()
                if fault in DOWN:
                    self.bench.server.start()
            assert victim.reached is not None, f"never came to failpoint {case.at}\n{self.said()}"
            self.judge(victim.code)
            for other in others:
                assert other.end() == 0, self.said()
            if victim.code != 0:
                # Whoever starts it again does so when the server has recovered.
                wait_until(self.bench.answers, END_TIMEOUT_S, "PostgreSQL answers")
                assert start(self.job()).end() == 0, self.said()
        self.check()
        return victim.reached

    def help(self, fault: Fault, victim: Child, proxy: Proxy | None, others: list[Child]) -> None:
        """Do what takes another process."""
        if fault is Fault.KILL_POSTGRES:
            self.bench.server.kill()
        elif fault in DOWN:
            self.bench.server.stop(immediate=fault is Fault.SHUT_DOWN_NOW)
        elif fault is Fault.KILL_BACKEND:
            self.kill_backend(victim.backend)
        elif fault is Fault.TERMINATE:
            with self.database.connect_as_admin() as admin:
                admin.execute("SELECT pg_terminate_backend(%s, 10000)", [victim.backend])
        elif fault is Fault.LOSE_REPLY and proxy is not None:
            proxy.cut(b"", Cut.AFTER)
        elif fault is Fault.HANG:
            # While one hangs, another one gets everything done: nothing waits for it for longer than the time-outs say.
            assert start(self.job()).end() == 0, self.said()
        elif fault is Fault.REVOKE:
            others.append(start(self.job()))

    def kill_backend(self, pid: int) -> None:
        """kill -9; until the server notices, and ends all sessions, it answers as if nothing had happened."""
        with self.database.connect_as_admin() as witness:

            def is_ended() -> bool:
                try:
                    witness.execute("SELECT 1")
                except psycopg.OperationalError:
                    return True
                return False

            os.kill(pid, signal.SIGKILL)
            wait_until(is_ended, END_TIMEOUT_S, "the server notices that a backend was killed")

    def judge(self, code: int | None) -> None:
        """What the process may make of it: passing failures are survived, by whatever can try again."""
        assert self.case is not None
        fault = self.case.fault
        if fault is Fault.KILL_SELF:
            assert code == -9, self.said()
        elif fault is Fault.RAISE:
            assert code == 1, self.said()
        elif self.subject in {Subject.WORKER, Subject.COMPACTOR}:
            assert code == 0, self.said()
        else:
            assert code in {0, 1}, self.said()

    def check(self) -> None:
        """Everything is as the oracle has it."""
        if self.subject is Subject.INSTALLATION:
            assert signature(self.database) == self.bench.signature, self.said()
            return
        pipeline = Pipeline(self.database, [], PARTITIONS)
        try:
            self.compare(pipeline)
        except AssertionError as error:
            message = f"{error}\n{self.said()}"
            raise AssertionError(message) from error
        finally:
            pipeline.close()

    def compare(self, pipeline: Pipeline) -> None:
        with self.database.connect() as owner:
            sessions = (
                "SELECT pid FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
                " AND backend_type = 'client backend'"
            )
            assert owner.execute(sessions).fetchall() == [], "a transaction was left open"
        if self.subject is Subject.UPGRADE:
            digests = pipeline.rows("SELECT * FROM _migrations")
            with self.bench.migrated.connect() as owner:
                now = owner.execute("SELECT name, digest FROM accum._migrations").fetchall()
            assert sorted(row[:2] for row in digests) == sorted(now)
            assert start(Job(Subject.WORKER, self.database.dsn, self.bench.log, TIMEOUT_MS)).end() == 0
        expected = oracle(EARLIER, THEN, LATER)
        refused = sorted([DROPPED, "nonsense", json.dumps(LATER[10])])
        if self.subject is Subject.COMPACTOR:
            self.check_chores(pipeline, refused)
        for register in DECLARED:
            drain(pipeline.access, register.name)
        # What was settled and relayed is forgotten by the compactor; its batch still counts it.
        forgotten = {"not_json": 1} if self.subject is Subject.COMPACTOR else {}
        compare(pipeline, expected, forgotten)
        letters = pipeline.rows("SELECT convert_from(event_value, 'UTF8') FROM _dead_letters ORDER BY 1")
        assert sorted(value for (value,) in letters) == [text for text in refused if not forgotten or text != DROPPED]
        assert pipeline.rows("SELECT partition, next_offset FROM _positions ORDER BY 1") == [
            (number, len(self.bench.log[TopicPartition(TOPIC, number)])) for number in range(PARTITIONS)
        ]

    def check_chores(self, pipeline: Pipeline, refused: Sequence[str]) -> None:
        """What a compactor has to have done by the time it ended."""
        assert pipeline.value("SELECT count(*) FROM flows_balance_cache_delta") == 0
        assert pipeline.value("SELECT high_write FROM _registers WHERE name = 'stock'")
        assert pipeline.value("SELECT count(*) FROM _dead_letters WHERE relayed_at IS NULL") == 0
        assert pipeline.value("SELECT count(*) FROM _dead_letters WHERE state <> 'waiting'") == 0
        assert pipeline.value("SELECT count(*) FROM _batches") == PARTITIONS
        for register in REGISTERS:
            assert pipeline.value("SELECT register_create_partitions(%s, interval '2 days')", [register]) == 0
        relayed = set((self.folder / "relayed").read_text(encoding="utf-8").splitlines())
        assert relayed == {f"None {value.encode()!r}" for value in refused}

    def said(self) -> str:
        """What its processes logged, for whoever looks at a failure."""
        logs = self.folder / "logs"
        return f"{self.case}\n{logs.read_text(encoding='utf-8')[-20_000:] if logs.exists() else ''}"

    def close(self) -> None:
        self.bench.databases.drop(self.database)


# ----------------------------------------------------------------------------------------------------------- all cases


@dataclass(slots=True)
class Tally:
    """What a sweep has done."""

    failpoints: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)
    cases: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {
            "failpoints": self.failpoints,
            "names": self.names,
            "cases": [
                {"subject": subject, "fault": fault, "ran": ran} for (subject, fault), ran in sorted(self.cases.items())
            ],
            "ran": self.cases.total(),
            "failures": self.failures,
        }


def list_failpoints(bench: Bench, subject: Subject) -> tuple[str, ...]:
    run = Run(bench, None, subject)
    try:
        return run.list_failpoints()
    finally:
        run.close()


def run_case(bench: Bench, case: Case) -> str:
    """Raise what went wrong."""
    run = Run(bench, case, case.subject)
    name = run.go()
    run.close()
    return name


def every_case(subject: Subject, names: Sequence[str], faults: Sequence[Fault]) -> Iterator[Case]:
    """Every failpoint with every fault."""
    for at, name in enumerate(names):
        for fault in faults:
            yield Case(subject, fault, at, name)


@contextmanager
def benches(count: int) -> Iterator[list[Bench]]:
    """So many servers."""
    with ExitStack() as stack:
        made = []
        for _ in range(count):
            made.append(Bench())
            stack.callback(made[-1].close)
        yield made


def sweep(bench_list: Sequence[Bench], cases: Sequence[Case], tally: Tally) -> None:
    """Run the cases, one at a time on each server."""
    waiting, lock = iter(cases), threading.Lock()

    def take(bench: Bench) -> None:
        while True:
            with lock:
                case = next(waiting, None)
            if case is None:
                return
            try:
                run_case(bench, case)
            except Exception as error:  # noqa: BLE001 - told at the end, after all the others
                tally.failures.append(f"{case}: {type(error).__name__}: {error}")
                sys.stderr.write(f"FAILED {case}: {str(error)[:3000]}\n")
            with lock:
                tally.cases[case.subject, case.fault] += 1
                if tally.cases.total() % 50 == 0:
                    sys.stderr.write(f"{tally.cases.total()} of {len(cases)}\n")

    with ThreadPoolExecutor(len(bench_list)) as pool:
        list(pool.map(take, bench_list))


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.support.sweep", description=__doc__)
    parser.add_argument("--only", action="append", choices=list(Subject), help="subjects; all unless given")
    parser.add_argument("--fault", action="append", choices=list(Fault), help="faults; all unless given")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th case")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="servers side by side")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here")
    chosen = parser.parse_args(arguments)
    tally, began = Tally(), time.monotonic()
    cases: list[Case] = []
    with benches(chosen.jobs) as made:
        for subject in map(Subject, chosen.only or Subject):
            names = list_failpoints(made[0], subject)
            tally.failpoints[subject], tally.names[subject] = len(names), sorted(set(names))
            faults = [fault for fault in FAULTS[subject] if not chosen.fault or fault in chosen.fault]
            cases += every_case(subject, names, faults)
        sweep(made, cases[:: chosen.every], tally)
    seconds = round(time.monotonic() - began)
    found = {**tally.as_json(), "seconds": seconds}
    for name, number in tally.failpoints.items():
        ran = ", ".join(f"{fault} {count}" for (what, fault), count in sorted(tally.cases.items()) if what == name)
        sys.stdout.write(f"{name}: {number} failpoints of {len(tally.names[name])} names; {ran}\n")
    sys.stdout.write(f"{found['ran']} failpoints x faults in {seconds} s, {len(tally.failures)} failed\n")
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return 1 if tally.failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
