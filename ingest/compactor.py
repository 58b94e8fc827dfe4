"""The second process: wait, fold what is pending, keep house, log; several may run, and none of them has to.

Every read includes pending deltas, so a compactor that is down makes reads slower and nothing else. It works in slices,
each a short transaction: whatever kills it leaves a slice folded or pending, never half of it.

    a slice takes too long, or waits for locks    a pause and smaller slices; larger again when they pass
    a slice cannot be added up                    smaller ones, until the cell that is to blame is alone; it is left
    PostgreSQL is away                            pauses that grow, with jitter; a chore waits for its next turn
    stop                                          the slice under way is finished
"""

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from ingest.delays import Clock
from ingest.domain.compacting import FIRST_KEY, Merged, PendingDeltas, Slice
from ingest.domain.progress import Tally
from ingest.errors import DataError, OperatorError, TallystreamError, TransientError

_log = structlog.get_logger(__name__)


class Deltas(Protocol):
    """Where pending deltas are: PostgreSQL."""

    def registers(self) -> Sequence[str]:
        """Return the registers that may have some."""

    def merge(self, wanted: Slice) -> Merged:
        """Fold a slice in one transaction."""

    def vacuum(self, register: str) -> None:
        """Let the space of folded deltas be used again."""

    def pending(self) -> Sequence[PendingDeltas]:
        """Return how many there are."""

    def close(self) -> None:
        """Give back the connection."""


@dataclass(frozen=True, slots=True)
class Chore:
    """Something to do every so often, in bounded steps: `step` returns how much it did, and 0 when nothing is left."""

    name: str
    every_ms: int
    step: Callable[[], int]


@dataclass(frozen=True, slots=True)
class CompactorLimits:
    """How much at a time, and how long to wait for what."""

    interval_ms: int = 1_000
    min_age_ms: int = 1_000
    slice_deltas: int = 3_000
    slices_per_turn: int = 50
    vacuum_every_ms: int = 5_000
    retry_initial_ms: int = 100
    retry_max_ms: int = 10_000
    report_every_ms: int = 10_000
    alarm_ms: int = 300_000
    most_steps: int = 1_000
    most_failures: int = 10
    # After a slice, in times of what it took: all of them at once kept batches waiting, p99 308 ms in place of 222.
    rest: float = 1.0


@dataclass(slots=True)
class _Walk:
    """Up to which cell one register's deltas have been gone through, and how many are taken at a time."""

    most: int
    key: int = FIRST_KEY
    folded: int = 0
    vacuumed_at: float = 0.0


@dataclass(slots=True)
class _Plan:
    """When a chore is due."""

    chore: Chore
    due_at: float


class Compactor:
    """Folds and keeps house: `run` returns after `stop`, `drain` when nothing is left of what was pending."""

    def __init__(self, deltas: Deltas, chores: Sequence[Chore], clock: Clock, limits: CompactorLimits) -> None:
        self.tally = Tally()
        self._deltas = deltas
        self._clock = clock
        self._limits = limits
        self.tally.chores.update({chore.name: 0 for chore in chores})
        self._plans = [_Plan(chore, clock.now()) for chore in chores]
        self._walks: dict[str, _Walk] = {}
        self._stopping = threading.Event()
        self._reported_at = clock.now()
        self._failures = 0

    def run(self) -> None:
        """Fold and keep house until told to stop."""
        _log.info("started", chores=[plan.chore.name for plan in self._plans])
        try:
            while not self._stopping.is_set():
                self.tally.loop.turn(self._clock.now())
                with self._timed("fold"):
                    more = self._attempt(self._turn)
                with self._timed("chores"):
                    for plan in self._plans:
                        self._do_when_due(plan)
                    self._report()
                if not more:
                    with self._timed("idle"):
                        self._clock.sleep(self._pause_s(), self._stopping)
        finally:
            self._deltas.close()
            _log.info("stopped", **self.tally.summary())

    def drain(self) -> None:
        """Fold what is pending now, do each chore once, and return; what goes on failing is raised."""
        began = self._clock.now()
        try:
            while self._drain_turn(began) and not self._stopping.is_set():
                pass
            for plan in self._plans:
                self._steps(plan.chore)
        finally:
            self._deltas.close()
            _log.info("drained", **self.tally.summary())

    def stop(self) -> None:
        """Ask `run` to finish; safe from a signal handler and from other threads."""
        self.tally.loop.stopping = True
        self._stopping.set()

    def _drain_turn(self, began: float) -> bool:
        """Go on with what was there when it began; says whether there may be more."""
        try:
            age_ms = int((self._clock.now() - began) * 1000)
            more = [self._walk(register, age_ms) for register in self._deltas.registers()]
        except (TransientError, DataError):
            self._failures += 1
            if self._failures >= self._limits.most_failures:
                raise
            self._clock.sleep(self._pause_s(), self._stopping)
            return True
        self._failures = 0
        return any(more)

    def _turn(self) -> bool:
        """Go on in every register; says whether it is worth going on at once."""
        # Compactors that begin with different registers are not in one another's way.
        registers = random.sample(names := self._deltas.registers(), len(names))
        more = [self._walk(register, self._limits.min_age_ms, self._limits.rest) for register in registers]
        return any(more)

    def _walk(self, register: str, min_age_ms: int, rest: float = 0.0) -> bool:
        """Fold slice after slice, from where it was left to the last cell; says whether to go on at once."""
        walk = self._walks.setdefault(register, _Walk(self._limits.slice_deltas, vacuumed_at=self._clock.now()))
        began = walk.key
        for _ in range(self._limits.slices_per_turn):
            if self._stopping.is_set():
                return False
            self.tally.loop.turn(self._clock.now())
            wanted = Slice(register, walk.most, min_age_ms, walk.key)
            started = self._clock.now()
            if self._slice(walk, wanted) is None:
                self._vacuum(register, walk)
                walk.key = FIRST_KEY
                # What lies before the cell with which this began is due as well.
                return began != FIRST_KEY
            if rest_s := rest * (self._clock.now() - started):
                self._clock.sleep(rest_s, self._stopping)
        self._vacuum(register, walk)
        return True

    def _slice(self, walk: _Walk, wanted: Slice) -> Merged | None:
        """Fold a slice and move on; None when nothing is left."""
        try:
            merged = self._deltas.merge(wanted)
        except TransientError:
            walk.most = max(1, walk.most // 2)
            raise
        if merged.problem is not None and walk.most > 1:
            walk.most = max(1, walk.most // 4)
            return merged
        if merged.problem is not None:
            self.tally.problems += 1
            cell = merged.last_key
            _log.error("a delta cannot be folded", register=wanted.register, dim_hash=cell, error=merged.problem)
        if merged.next_key is None:
            return None
        walk.key = merged.next_key
        walk.folded += merged.deltas
        walk.most = min(walk.most * 2, self._limits.slice_deltas)
        self.tally.slices += 1
        self.tally.deltas += merged.deltas
        return merged

    def _vacuum(self, register: str, walk: _Walk) -> None:
        now = self._clock.now()
        if walk.folded and (now - walk.vacuumed_at) * 1000 >= self._limits.vacuum_every_ms:
            walk.folded, walk.vacuumed_at = 0, now
            try:
                self._deltas.vacuum(register)
            except (TransientError, OperatorError) as error:
                _log.warning("room for new deltas could not be made", register=register, error=str(error))

    def _do_when_due(self, plan: _Plan) -> None:
        if self._stopping.is_set() or self._clock.now() < plan.due_at:
            return
        plan.due_at = self._clock.now() + random.uniform(0.75, 1.25) * plan.chore.every_ms / 1000  # noqa: S311
        try:
            self._steps(plan.chore)
        except (TransientError, OperatorError, DataError) as error:
            _log.warning("a chore was left for its next turn", chore=plan.chore.name, error=str(error))

    def _steps(self, chore: Chore) -> None:
        for _ in range(self._limits.most_steps):
            self.tally.loop.turn(self._clock.now())
            done = 0 if self._stopping.is_set() else chore.step()
            if not done:
                return
            self.tally.chores[chore.name] += done

    def _attempt(self, work: Callable[[], bool]) -> bool:
        """Do it; a passing failure is a warning and a longer pause."""
        try:
            more = work()
        except (TransientError, DataError) as error:
            self._failures += 1
            self.tally.retries += 1
            self.tally.loop.failing = True
            _log.warning("folding failed, trying again", error=str(error))
            return False
        self._failures = 0
        self.tally.loop.failing = False
        return more

    @contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        began = self._clock.now()
        yield
        self.tally.seconds[phase] += self._clock.now() - began

    def _pause_s(self) -> float:
        """Seconds to wait now; jitter keeps compactors that wait for the same thing apart."""
        pause_ms: float = self._limits.interval_ms
        if self._failures:
            longer = self._limits.retry_initial_ms * 2 ** min(self._failures - 1, 16)
            pause_ms = min(longer, self._limits.retry_max_ms)
        return random.uniform(0.5, 1.5) * pause_ms / 1000  # noqa: S311

    def _report(self) -> None:
        now = self._clock.now()
        if (now - self._reported_at) * 1000 < self._limits.report_every_ms:
            return
        self._reported_at = now
        try:
            found = self._deltas.pending()
        except TallystreamError as error:
            _log.warning("pending deltas could not be counted", error=str(error))
            return
        pending = {p.register: {"deltas": p.deltas, "age_s": round(p.age_s or 0.0, 1)} for p in found}
        _log.info("progress", **self.tally.summary(), pending=pending)
        late = [p.register for p in found if p.is_late(self._limits.alarm_ms)]
        if late:
            _log.error("deltas have been pending for too long", registers=late)
