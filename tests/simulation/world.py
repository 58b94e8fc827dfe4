"""One simulated life: workers, a broker and a server, an hour of mishaps, then peace, and a reckoning at the end.

World(seed).run()        # raises AssertionError when a promise was broken; the same seed breaks it again
"""

import random
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from random import Random

from ingest.domain.applying import Applied, Registry
from ingest.domain.batches import BatchLimits, Decoded
from ingest.domain.messages import Event, EventType, Message, Movements, Reason, Refusal
from ingest.domain.positions import TopicPartition, check_position
from ingest.errors import PositionError
from ingest.worker import Worker, WorkerLimits
from tests.simulation.log import PartitionLog
from tests.simulation.scheduler import Process, Scheduler, Signal
from tests.simulation.server import Server
from tests.simulation.source import Group, SimulatedSource
from tests.simulation.store import SimulatedStore

MISHAPS_S = 60.0
PEACE_S = 400.0
# Told to stop, a worker is gone after its budgets and whatever it waits for at that moment.
STOPPED_WITHIN_S = 90.0
LATE_REGISTERS = ("returns", "hours")


class SimulatedClock:
    """The scheduler's time; a worker that sleeps is woken when it is told to stop."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.woken = Signal(scheduler)
        self._scheduler = scheduler

    def now(self) -> float:
        """Seconds of a steady clock."""
        return self._scheduler.now

    def sleep(self, seconds: float, until: threading.Event) -> None:
        """Wait, at most until the event is set."""
        if not until.is_set():
            self._scheduler.wait(self.woken, seconds)


class Turns:
    """The worker's commits as tasks of its process."""

    def __init__(self, scheduler: Scheduler, process: Process) -> None:
        self._scheduler = scheduler
        self._process = process

    def start(self, work: Callable[[], None]) -> None:
        """Begin the work, and return."""
        self._scheduler.start(self._process, work)

    def wait(self, results: Sequence[Future[Applied]], timeout_s: float) -> bool:
        """Return when one of the results is there, or the time is over; says which."""
        if timeout_s > 0 and not any(result.done() for result in results):
            there = Signal(self._scheduler)
            for result in results:
                result.add_done_callback(lambda _: there.notify())
            self._scheduler.wait(there, timeout_s)
        return any(result.done() for result in results)


@dataclass(slots=True, eq=False)
class Pod:
    """A worker's process."""

    process: Process
    worker: Worker
    source: SimulatedSource
    stores: list[SimulatedStore]
    clock: SimulatedClock
    told_at: float | None = None
    ended: bool = False

    def stop(self, now: float) -> None:
        """SIGTERM."""
        self.told_at = now if self.told_at is None else self.told_at
        self.worker.stop()
        self.clock.woken.notify()


class World:
    """Everything of one seed."""

    def __init__(self, seed: int, trace: Callable[[str], None] = lambda _: None) -> None:
        self.rng = Random(seed)
        # The worker's own jitter is part of the seed, too.
        random.seed(seed)
        self.scheduler = Scheduler()
        names = [TopicPartition("t", number) for number in range(self.rng.randint(1, 4))]
        self.logs = {where: PartitionLog(where, self.rng) for where in names}
        self.server = Server(self.scheduler, self.logs, self.rng)
        self.group = Group(self.scheduler, self.logs, self.rng)
        self.reached = self.server.reached
        self.group.reached = self.reached
        self.pods: list[Pod] = []
        self.given_up: set[int] = set()
        self.serials = 0
        self._trace = trace
        self._doubtful: dict[TopicPartition, int] = {}
        self._event_ids: list[tuple[str, str, str]] = []
        self._ends_at = self.scheduler.now + MISHAPS_S
        self._weather = Process("weather")

    def run(self) -> None:
        """Live through it, and check."""
        scheduler = self.scheduler
        try:
            for _ in range(self.rng.randint(1, 3)):
                self._start_pod()
            for chore in (self._produce, self._mishaps, self._operate, self._watch):
                scheduler.start(self._weather, chore)
            scheduler.run(lambda: scheduler.now >= self._ends_at, self._ends_at)
            self._make_peace()
            scheduler.run(self._everything_is_read, scheduler.now + PEACE_S)
            assert self._everything_is_read(), f"no progress: {self._where_it_stands()}"
            for pod in self._living():
                pod.stop(scheduler.now)
            scheduler.run(lambda: not self._living(), scheduler.now + STOPPED_WITHIN_S)
            self._reckon()
        finally:
            scheduler.close()

    def trace(self, text: str) -> None:
        """Tell what happens, and when."""
        self._trace(f"{self.scheduler.now:10.3f} {text}")

    # -------------------------------------------------------------------------------------------- what goes on

    def _start_pod(self) -> None:
        process = Process(f"worker-{len(self.pods)}")
        rng = self.rng
        limits = WorkerLimits(
            batch=BatchLimits(max_events=rng.randint(1, 20), max_age_ms=rng.choice((0, 50, 200))),
            poll_max_messages=rng.randint(1, 30),
            poll_timeout_ms=rng.choice((200, 1_000)),
            retry_max_ms=rng.choice((1_000, 10_000)),
            revoke_budget_ms=rng.choice((50, 1_000, 10_000)),
            stop_budget_ms=rng.choice((50, 1_000, 20_000)),
            stall_after_ms=rng.choice((50, 1_000, 5_000)),
        )
        source = SimulatedSource(self.scheduler, self.group, self.server, process, rng)
        stores = [SimulatedStore(self.scheduler, self.server, process, rng) for _ in range(rng.randint(1, 3))]
        clock = SimulatedClock(self.scheduler)
        worker = Worker(source, stores, _decode, clock, limits, Turns(self.scheduler, process))
        pod = Pod(process, worker, source, stores, clock)
        self.pods.append(pod)
        self.scheduler.start(process, lambda: self._live(pod))
        self.trace(f"{process.name} starts")

    def _live(self, pod: Pod) -> None:
        pod.worker.run()
        pod.ended = True
        assert pod.told_at is not None, f"{pod.process.name} ended by itself"
        took = self.scheduler.now - max(pod.told_at, pod.process.frozen_until)
        assert took <= STOPPED_WITHIN_S, f"{pod.process.name} took {took:.1f} s to stop"
        self.reached["stopped in order"] += 1
        self.trace(f"{pod.process.name} has stopped")

    def _produce(self) -> None:
        while True:
            self.scheduler.sleep(self.rng.expovariate(0.4))
            if self.scheduler.now >= self._ends_at:
                return
            for _ in range(self.rng.choice((1, 2, 5, 12))):
                self._append()
            self.group.arrived.notify()

    def _append(self) -> None:
        rng = self.rng
        if self._event_ids and rng.random() < 0.1:
            register, recorder, event_id = rng.choice(self._event_ids[-30:])
        else:
            register = rng.choice(("sales", "sales", *LATE_REGISTERS))
            recorder, event_id = f"r{rng.randint(0, 20)}", f"e{self.serials}"
            self._event_ids.append((register, recorder, event_id))
        where = sorted(self.logs)[int(recorder[1:]) % len(self.logs)]
        if where not in self._doubtful:
            self.serials += 1
            self.logs[where].append(self.serials, register, recorder, event_id)

    def _operate(self) -> None:
        """A person looks after partitions that stopped: goes on where the log begins, or ends."""
        while True:
            self.scheduler.sleep(self.rng.uniform(2, 8))
            for where, log in self.logs.items():
                position = self.server.positions.get(where)
                if position is None:
                    continue
                try:
                    check_position(position.next_offset, position.topic_id, log.bounds)
                except PositionError:
                    same = position.topic_id == log.topic_id
                    start = min(max(position.next_offset, log.low), log.high) if same else log.low
                    epoch = self.server.next_epoch(position.epoch)
                    changed = replace(position, next_offset=start, topic_id=log.topic_id, epoch=epoch)
                    if self.server.set_position(where, changed):
                        self.reached["position set by hand"] += 1
                        self.trace(f"{where}: set from {position.next_offset} to {start}")

    def _watch(self) -> None:
        """What time brings: the group looks after its members, the server after its sessions, truncation settles."""
        while True:
            self.scheduler.sleep(1.0)
            self.group.look()
            self.server.end_idle()
            for where, epoch in list(self._doubtful.items()):
                position = self.server.positions[where]
                if position.epoch > epoch and position.next_offset <= self.logs[where].high:
                    del self._doubtful[where]

    # ------------------------------------------------------------------------------------------------- mishaps

    def _mishaps(self) -> None:
        common = [self._kill, self._freeze, self._stop, self._rebalance, self._tremble, self._slow_down, self._declare]
        rare = [self._crash, self._broker_away, self._fail_over, self._retain, self._truncate, self._recreate]
        # A seed knows some of them only: what happens seldom meets everything else more often so.
        known = self.rng.sample([*common, *rare], self.rng.randint(3, 9))
        pause_s = self.rng.choice((1.0, 3.0, 8.0))
        if self._truncate in known and self._fail_over in known:
            # Both logs go back in time: a position that is right by accident is more than anybody could notice.
            known.remove(self.rng.choice((self._truncate, self._fail_over)))
        while True:
            self.scheduler.sleep(self.rng.expovariate(1 / pause_s))
            if self.scheduler.now >= self._ends_at:
                return
            self.rng.choice(known)()
            while len(self._living()) < self.rng.randint(1, 3):
                self._start_pod()

    def _kill(self) -> None:
        for pod in self._some_pod():
            self._mention("kill -9", pod)
            self.scheduler.kill(pod.process)
            self.server.orphan(pod.process)

    def _freeze(self) -> None:
        for pod in self._some_pod():
            seconds = self.rng.choice((0.5, 5, 15, 40))
            pod.process.frozen_until = max(pod.process.frozen_until, self.scheduler.now + seconds)
            self._mention("frozen", pod, f"for {seconds} s")

    def _stop(self) -> None:
        for pod in self._some_pod():
            self._mention("SIGTERM", pod)
            pod.stop(self.scheduler.now)

    def _rebalance(self) -> None:
        self._mention("rebalance")
        self.group.rebalance()

    def _tremble(self) -> None:
        for pod in self._some_pod():
            for store in pod.stores:
                store.trouble = self.rng.choice((0.0, 0.1, 0.3, 0.8))
            self._mention("network trouble", pod, f"{[store.trouble for store in pod.stores]}")

    def _slow_down(self) -> None:
        for pod in self._some_pod():
            for store in pod.stores:
                store.slowness_s = self.rng.choice((0.001, 0.02, 0.5, 4.0))
            self._mention("slow PostgreSQL", pod, f"{[store.slowness_s for store in pod.stores]} s")

    def _declare(self) -> None:
        missing = [name for name in LATE_REGISTERS if name not in self.server.declared]
        if missing and self.server.declare(missing[0]):
            self._mention("declared", more=missing[0])

    def _crash(self) -> None:
        self._mention("PostgreSQL crash")
        self.server.crash(self.rng.choice((0.2, 3, 20)))

    def _fail_over(self) -> None:
        commits = self.rng.choice((0, 1, 3, 10))
        self._mention("fail-over", more=f"without {commits} commits")
        self.server.fail_over(commits, self.rng.choice((0.2, 5)))

    def _broker_away(self) -> None:
        self._mention("broker away")
        self.group.down_until = self.scheduler.now + self.rng.choice((1, 5, 30))

    def _retain(self) -> None:
        log = self._some_log()
        log.retain(self.rng.randint(log.low, log.high))
        self._mention("retention", more=f"{log.where} up to {log.low}")

    def _truncate(self) -> None:
        log = self._some_log()
        position = self.server.positions.get(log.where)
        if position is not None and position.topic_id == log.topic_id and log.high - log.low > 1:
            log.truncate(self.rng.randint(max(log.low, log.high - 10), log.high - 1))
            # Nothing is written there until whoever read the old end is fenced: no broker could tell the two apart.
            self._doubtful[log.where] = position.epoch
            self._mention("truncation", more=f"{log.where} to {log.high}")

    def _recreate(self) -> None:
        log = self._some_log()
        log.recreate(f"topic-{self.serials}-{len(log.lineages)}")
        self._mention("topic created anew", more=str(log.where))

    def _some_pod(self) -> list[Pod]:
        living = self._living()
        return [self.rng.choice(living)] if living else []

    def _some_log(self) -> PartitionLog:
        settled = [log for where, log in self.logs.items() if where not in self._doubtful]
        return self.rng.choice(settled or [*self.logs.values()])

    def _mention(self, what: str, pod: Pod | None = None, more: str = "") -> None:
        self.reached[what] += 1
        self.trace(" ".join(part for part in (what, pod.process.name if pod else "", more) if part))

    # ---------------------------------------------------------------------------------------------- the end

    def _make_peace(self) -> None:
        self.trace("peace")
        self.server.down_until = self.group.down_until = 0.0
        for pod in self._living():
            for store in pod.stores:
                store.trouble, store.slowness_s = 0.0, 0.02
            pod.process.frozen_until = min(pod.process.frozen_until, self.scheduler.now + 30)
        self._start_pod()

    def _living(self) -> list[Pod]:
        return [pod for pod in self.pods if not pod.ended and not pod.process.dead]

    def _everything_is_read(self) -> bool:
        positions = self.server.positions
        return all(
            not log.records
            or ((p := positions.get(where)) and p.topic_id == log.topic_id and p.next_offset > log.records[-1].offset)
            for where, log in self.logs.items()
        )

    def _where_it_stands(self) -> str:
        return "; ".join(
            f"{where}: {self.server.positions.get(where)}, log {log.low}..{log.high} of {log.topic_id}"
            for where, log in self.logs.items()
        )

    def _reckon(self) -> None:
        assert not self._living(), f"still there: {[pod.process.name for pod in self._living()]}"
        lost = set().union(*(log.lost for log in self.logs.values()))
        missing = set(range(1, self.serials + 1)) - self.server.outcomes.keys() - lost
        assert not missing, f"events {sorted(missing)} are behind the positions, and nobody knows them"


def _decode(registry: Registry, message: Message) -> Decoded:
    """An event of the register that the record names, or a refusal."""
    _, register, recorder, event_id = (message.value or b"").decode().split()
    if register not in registry.registers:
        return Refusal(message, Reason.UNKNOWN_REGISTER, "register", f"version {registry.version}")
    return Event(message, EventType.MOVEMENT, register, recorder, event_id, None, Movements(), 0, 0)
