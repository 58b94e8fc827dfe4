"""The processes under torture: several workers and compactors, what they said, and what was done to them."""

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from random import Random

from tests.support.program import Log, Program
from tests.torture.stage import Stage

MOST_WORKERS, LEAST_WORKERS = 3, 2
MOVED = ("partitions revoked", "partitions lost")
COMPACTORS = 2
START_TIMEOUT_S = 60


@dataclass(slots=True, eq=False)
class Member:
    """A process, and until when it is frozen."""

    program: Program
    frozen_until: float = 0.0
    thawed_at_log: int | None = None

    @property
    def has_started(self) -> bool:
        """Whether it got as far as its work."""
        return bool(self.program.logged(event="started"))

    def is_frozen(self) -> bool:
        """Whether it is stopped now."""
        return self.frozen_until > 0


@dataclass(slots=True)
class Crew:
    """Who is alive; and everybody who ever was."""

    stage: Stage
    rng: Random
    workers: list[Member] = field(default_factory=list)
    compactors: list[Member] = field(default_factory=list)
    everybody: list[Member] = field(default_factory=list)
    bad_ends: list[str] = field(default_factory=list)
    repeated_starts: int = 0

    def fill_up(self, workers: int) -> None:
        """Start what is missing, without waiting for it."""
        self._bury()
        while len(self.workers) < workers:
            self.workers.append(self._start("run"))
        while len(self.compactors) < COMPACTORS:
            self.compactors.append(self._start("compact"))

    def kill(self, members: list[Member]) -> Member | None:
        """kill -9 of one of them."""
        if (victim := self._some(members)) is not None:
            members.remove(victim)
            victim.program.kill()
        return victim

    def freeze(self, members: list[Member], seconds: float) -> None:
        """SIGSTOP of one of them; `thaw` ends it."""
        if (victim := self._some(members)) is not None:
            victim.frozen_until = time.monotonic() + seconds
            victim.program.pause()

    def thaw(self, *, all_of_them: bool = False) -> None:
        """SIGCONT of those whose time has come."""
        now = time.monotonic()
        for member in (*self.workers, *self.compactors):
            if member.is_frozen() and (all_of_them or now >= member.frozen_until):
                member.thawed_at_log = len(member.program.lines)
                member.frozen_until = 0.0
                member.program.resume()

    def terminate(self, members: list[Member]) -> None:
        """SIGTERM of one of them; it has to end in order."""
        if (victim := self._some(members)) is not None:
            members.remove(victim)
            self._end(victim)

    def dismiss(self) -> None:
        """SIGTERM of all."""
        self.thaw(all_of_them=True)
        with ThreadPoolExecutor() as executor:
            list(executor.map(self._end, (*self.workers, *self.compactors)))
        self.workers.clear()
        self.compactors.clear()

    def close(self) -> None:
        """Nothing is left behind."""
        for member in self.everybody:
            with contextlib.suppress(OSError):
                member.program.close()

    def logs(self, condition: Callable[[Log], bool]) -> int:
        """How many lines anybody has ever logged of which this is true."""
        return sum(condition(log) for member in self.everybody for log in member.program.logs)

    def resolved(self, standing: str) -> int:
        """How often it turned out so what became of a batch whose outcome was unknown."""
        event = "it was unknown what became of a batch"
        return self.logs(lambda log: log.get("event") == event and log.get("standing") == standing)

    def fenced(self) -> int:
        """How many batches were refused because others have their partitions."""
        return self.logs(lambda log: str(log.get("event")).startswith("fenced"))

    def rebalanced(self) -> int:
        """How often partitions left a worker."""
        return self.logs(lambda log: log.get("event") in MOVED)

    def folded_again(self) -> int:
        """How often a compactor had to try again."""
        return self.logs(lambda log: log.get("event") == "folding failed, trying again")

    def _start(self, command: str) -> Member:
        # Only workers are cut off at a COMMIT: that is where an outcome is unknown.
        direct = {"TALLYSTREAM_POSTGRES_DSN": self.stage.database.dsn} if command == "compact" else {}
        member = Member(Program(command, env={**self.stage.env, **direct}, folder=self.stage.folder))
        self.everybody.append(member)
        return member

    def _some(self, members: list[Member]) -> Member | None:
        awake = [member for member in members if not member.is_frozen() and member.program.code is None]
        return self.rng.choice(awake) if awake else None

    def _end(self, member: Member) -> None:
        code = member.program.terminate()
        if code and member.has_started:
            self.bad_ends.append(f"{member.program!r} ended with {code} after SIGTERM:\n{member.program.tail()}")

    def _bury(self) -> None:
        """Nobody ends by himself."""
        for members in (self.workers, self.compactors):
            for member in [m for m in members if m.program.code is not None]:
                members.remove(member)
                if member.has_started:
                    tail = member.program.tail()
                    self.bad_ends.append(f"{member.program!r} ended with {member.program.code}:\n{tail}")
                else:
                    # Without a server there is no schema to check: such a start is repeated, as Kubernetes does.
                    self.repeated_starts += 1
