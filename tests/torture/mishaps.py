"""What is done to everybody: each mishap once in a random order, then at random; and what rare states that led to."""

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import psycopg

from ingest.domain.positions import LogBounds, TopicPartition
from ingest.errors import TransientError
from ingest.postgres.apply import BatchStore
from ingest.postgres.connections import Database as Access
from tests.support.proxy import COMMIT, Cut
from tests.torture.crew import LEAST_WORKERS, MOST_WORKERS, Crew
from tests.torture.stage import SESSION_TIMEOUT_MS, Stage

# Longer than the group waits: a frozen worker's partitions go to others.
ZOMBIE_S = SESSION_TIMEOUT_MS / 1000 + 3
CUT_WITHIN_S = 3
MOST_ENCORES = 10
MOST_CUTS = 8


@dataclass(slots=True)
class Mishaps:
    """Does one thing after another, and heals what it broke in the end."""

    stage: Stage
    crew: Crew
    rng: Random
    done: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    _queue: list[Callable[[], None]] = field(default_factory=list)
    _zombie_until: float = 0.0

    def go_on(self, until: float) -> None:
        """Mishaps until then."""
        often = [
            self.kill_worker,
            self.lose_reply,
            self.lose_commit,
            self.kill_sessions,
            self.join_in,
            self.usurp,
        ]
        rather = [self.kill_postgres, self.kill_compactor, self.terminate_worker, self.freeze_worker, self.kill_kafka]
        seldom = [self.freeze_compactor, self.terminate_compactor, self.freeze_postgres, self.freeze_kafka]
        seldom.append(self.restart_postgres)
        everything = [*often, *rather, *seldom]
        # A short run begins with what is quickly done.
        later, first = [*rather, *seldom], list(often)
        self.rng.shuffle(later)
        self.rng.shuffle(first)
        self._queue = [*later, *first]
        while time.monotonic() < until:
            mishap = self._queue.pop() if self._queue else self.rng.choice([*everything, *often, *often])
            self.done[mishap.__name__.replace("_", " ")] += 1
            mishap()
            self._pause(self.rng.uniform(0.1, 1.5))

    def insist(self) -> None:
        """Provoke again what every run has to reach, however short, until it was."""
        wanted: list[tuple[Callable[[], None], Callable[[], int]]] = [
            (self.lose_reply, lambda: self.crew.resolved("committed")),
            (self.lose_commit, lambda: self.crew.resolved("not_committed")),
            (self.usurp, self.crew.fenced),
            (self.join_in, self.crew.rebalanced),
            (self.kill_sessions, self.crew.folded_again),
        ]
        for mishap, seen in wanted:
            for _ in range(MOST_ENCORES):
                if seen():
                    break
                self.done[mishap.__name__.replace("_", " ")] += 1
                mishap()
                self._await(seen)

    def _await(self, seen: Callable[[], int]) -> None:
        """A while for it to show; on a busy machine a process takes seconds to start."""
        for _ in range(12):
            self._pause(0.25)
            if seen():
                return

    def heal(self) -> None:
        """Everybody is awake and has what he needs."""
        self.stage.proxy.heal()
        self.crew.thaw(all_of_them=True)
        self.crew.fill_up(LEAST_WORKERS)

    # ------------------------------------------------------------------------------------------------ workers

    def kill_worker(self) -> None:
        """kill -9; sometimes it has committed what Kafka was not told any more."""
        victim = self.crew.kill(self.crew.workers)
        if victim is not None and self._is_ahead_of_kafka(victim.program.pid):
            self.reached["killed between COMMIT and mirror"] += 1

    def freeze_worker(self) -> None:
        """SIGSTOP for longer than the session: it wakes up as a zombie. Or for a moment."""
        seconds = ZOMBIE_S if time.monotonic() > self._zombie_until else 1.0
        self._zombie_until = max(self._zombie_until, time.monotonic() + seconds)
        self.crew.freeze(self.crew.workers, seconds)

    def terminate_worker(self) -> None:
        """SIGTERM."""
        self.crew.terminate(self.crew.workers)

    def join_in(self) -> None:
        """A rebalance in the middle of the work."""
        self.crew.fill_up(MOST_WORKERS)

    def lose_reply(self) -> None:
        """The next COMMIT takes place, and nobody hears of it."""
        self._cut(Cut.AFTER, "committed")

    def lose_commit(self) -> None:
        """The next COMMIT never arrives."""
        self._cut(Cut.BEFORE, "not_committed")

    def usurp(self) -> None:
        """Somebody without a group takes all partitions, and is never seen again."""
        stage = self.stage
        bounds = [LogBounds(TopicPartition(stage.topic, n), None, 0, end) for n, end in stage.end().items()]
        store = BatchStore(Access(stage.database.dsn, lock_timeout_ms=3_000), stage.group, "usurper")
        with contextlib.suppress(TransientError):
            store.claim(bounds)

    # --------------------------------------------------------------------------------------------- compactors

    def kill_compactor(self) -> None:
        """kill -9."""
        self.crew.kill(self.crew.compactors)

    def freeze_compactor(self) -> None:
        """SIGSTOP, possibly with a slice of deltas locked."""
        self.crew.freeze(self.crew.compactors, 2.0)

    def terminate_compactor(self) -> None:
        """SIGTERM."""
        self.crew.terminate(self.crew.compactors)

    # ------------------------------------------------------------------------------------------------ servers

    def kill_postgres(self) -> None:
        """kill -9 of the server with all its sessions, and recovery."""
        pending = self._pending()
        self.stage.postgres.kill()
        self._pause(self.rng.uniform(0, 1))
        self.stage.postgres.start()
        if pending and self._pending():
            self.reached["recovery with pending deltas"] += 1

    def restart_postgres(self) -> None:
        """A shutdown, fast or immediate, and a start."""
        self.stage.postgres.stop(immediate=self.rng.random() < 0.5)
        self.stage.postgres.start()

    def freeze_postgres(self) -> None:
        """SIGSTOP of the server with all its sessions."""
        self._freeze(self.stage.postgres.pid, self.rng.uniform(0.5, 4))

    def kill_sessions(self) -> None:
        """pg_terminate_backend of every session of the product."""
        with self.stage.database.connect_as_admin() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tallystream%'"
            )

    def kill_kafka(self) -> None:
        """kill -9 of the broker, and recovery."""
        self.stage.kafka.kill()
        self._pause(self.rng.uniform(0, 2))
        self.stage.kafka.start()

    def freeze_kafka(self) -> None:
        """SIGSTOP of the broker."""
        self._freeze(self.stage.kafka.pid, self.rng.uniform(0.5, 4))

    # ---------------------------------------------------------------------------------------------------------

    def _cut(self, where: Cut, standing: str) -> None:
        """Until it hits a batch: claims and new partitions are committed too."""
        before = self.crew.resolved(standing)
        for _ in range(MOST_CUTS):
            if self.crew.resolved(standing) > before:
                return
            cuts = self.stage.proxy.cuts
            self.stage.proxy.cut(COMMIT, where, self.rng.randint(0, 3))
            until = time.monotonic() + CUT_WITHIN_S
            while self.stage.proxy.cuts == cuts and time.monotonic() < until:
                self._pause(0.05)
            self._pause(0.3)

    def _freeze(self, pid: int, seconds: float) -> None:
        self.stage.freeze(pid)
        try:
            self._pause(seconds)
        finally:
            self.stage.freeze(pid, thaw=True)

    def _pause(self, seconds: float) -> None:
        """Let time pass; whoever has to wake up does, and whoever is missing is replaced."""
        until = time.monotonic() + seconds
        while True:
            self.crew.thaw()
            if len(self.crew.workers) < LEAST_WORKERS or len(self.crew.compactors) < 1:
                self.crew.fill_up(LEAST_WORKERS)
            if time.monotonic() >= until:
                return
            time.sleep(0.05)

    def _is_ahead_of_kafka(self, pid: int) -> bool:
        with contextlib.suppress(psycopg.Error), self.stage.connect() as connection:
            rows = connection.execute(
                "SELECT partition, next_offset FROM accum._positions WHERE owner LIKE %s", (f"%:{pid}",)
            ).fetchall()
            told = self.stage.mirrored()
            return any(offset > max(0, told.get(partition, 0)) for partition, offset in rows)
        return False

    def _pending(self) -> int:
        with contextlib.suppress(psycopg.Error), self.stage.connect() as connection:
            row = connection.execute("SELECT count(*) FROM accum.heaps_balance_cache_delta").fetchone()
            return int(row[0]) if row else 0
        return 0
