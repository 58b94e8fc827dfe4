"""The story of a rebuild: replay the topic into a shadow, compare, catch up, exchange; and resume wherever it was.

Everything that is known is in PostgreSQL: the shadow with its positions, moved in the transaction of each batch. So a
rebuild that is killed goes on with the next run of the same command.

    the stream goes on                      it is caught up with, in rounds that get shorter
    the last few events                     are read while batches wait, and then the tables are exchanged
    somebody would wait for too long        the stream is let go, and caught up with again
    a batch failed for a passing reason     the round begins again where the positions stand
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import structlog

from ingest.delays import Clock
from ingest.domain.applying import Applied, Claims, Registry
from ingest.domain.batches import Batch
from ingest.domain.decoding import Decode
from ingest.domain.messages import Message
from ingest.domain.positions import LogBounds, TopicPartition
from ingest.domain.rebuilding import (
    Carried,
    Collector,
    Comparison,
    GivenUp,
    Replayed,
    Shadow,
    Targets,
    check_ahead,
    gaps_of,
    refuse_gaps,
    sort_out,
)
from ingest.errors import FencedError, OperatorError, RegisterError, RegistryChangedError, TransientError

_LOOK_AGAIN_S = 0.02

_log = structlog.get_logger(__name__)

T = TypeVar("T")


class Reader(Protocol):
    """Where records come from: the topic, without its consumer group."""

    def bounds(self, partitions: Sequence[TopicPartition]) -> Sequence[LogBounds]:
        """Return what the broker has of each, as far as it tells."""

    def open(self, spans: Mapping[TopicPartition, tuple[int, int]]) -> None:
        """Begin to read each partition from the first to before the second offset."""

    def read(self, most: int, timeout_s: float) -> Sequence[Message]:
        """Return what has come."""

    def is_done(self) -> bool:
        """Whether all that was asked for has been returned."""

    def close(self) -> None:
        """Give back the connection."""


class Store(Protocol):
    """Where the shadow is: PostgreSQL."""

    def begin(self) -> Shadow:
        """Make the shadow, or find it."""

    def is_under_way(self) -> bool:
        """Say whether the shadow is still one."""

    def discard(self) -> bool:
        """Drop the shadow; says whether there was one."""

    def registry(self) -> Registry:
        """Read the declarations, the register's being that of the shadow."""

    def targets(self) -> Targets:
        """Say how far the live register has been read."""

    def claim(self, bounds: Sequence[LogBounds]) -> Claims:
        """Take the rebuild's own positions."""

    def given_up(self) -> GivenUp:
        """Name the events that are dropped dead letters, or that a position was moved over."""

    def has_checked_gaps(self) -> bool:
        """Say whether it is settled where this rebuild begins."""

    def movements_before(self, gaps: Mapping[TopicPartition, int]) -> int:
        """Count the live movements that come from before these offsets."""

    def accept_gaps(self, gaps: Mapping[TopicPartition, int]) -> None:
        """Remember that those are given up."""

    def apply(self, batch: Batch, registry: Registry) -> Applied:
        """Apply a batch to the shadow, in one transaction with its positions."""

    def carry(self, *, drop: bool) -> Carried:
        """Make the shadow's movements by SQL those of the live register, or none."""

    def hold(self) -> AbstractContextManager[None]:
        """Keep batches and writers by hand waiting meanwhile; readers go on."""

    def compare(self, most: int) -> Callable[[], Comparison]:
        """See live register and shadow as they are now; what is returned compares them, whatever happens meanwhile."""

    def refusals(self) -> Mapping[str, int]:
        """Count the events that were refused, by reason."""

    def new_refusals(self) -> int:
        """Count those of them that the live register has applied."""

    def snapshots(self) -> frozenset[tuple[int, str]]:
        """Name the sessions that see the database as it was at some time before now."""

    def exchange(self) -> None:
        """Put the shadow in the register's place and let the stream go on; called while it is held."""

    def close(self) -> None:
        """Give back connections."""


@dataclass(frozen=True, slots=True)
class Choices:
    """What the operator has decided beforehand."""

    dry_run: bool = False
    keep: bool = False
    drop_sql_movements: bool = False
    accept_gap: bool = False
    accept_refusals: bool = False
    most: int = 20


@dataclass(frozen=True, slots=True)
class RebuilderLimits:
    """How much at a time, and for how long the stream may be kept waiting."""

    max_events: int = 10_000
    max_bytes: int = 16 * 1024 * 1024
    poll_timeout_ms: int = 100
    near: int = 10_000
    hold_ms: int = 5_000
    retry_initial_ms: int = 100
    retry_max_ms: int = 10_000


@dataclass(slots=True)
class Rebuilt:
    """What a run came to."""

    shadow: Shadow
    replayed: Replayed = field(default_factory=Replayed)
    carried: Carried | None = None
    comparison: Comparison | None = None
    refusals: Mapping[str, int] = field(default_factory=dict)
    new_refusals: int = 0
    dropped_sql: bool = False
    exchanged: bool = False


class StoppedError(Exception):
    """Told to stop: the next run goes on from here."""


class BusyError(TransientError):
    """The stream was kept waiting for as long as it may be."""


class Rebuilder:
    """Rebuilds one register: `run` returns when it is done, and may be run again after whatever ended it."""

    def __init__(
        self,
        reader: Reader,
        store: Store,
        decode: Decode,
        clock: Clock,
        limits: RebuilderLimits,
        report: Callable[[str, int, int], None] = lambda _what, _done, _of: None,
    ) -> None:
        self._reader = reader
        self._store = store
        self._decode = decode
        self._clock = clock
        self._limits = limits
        self._report = report
        self._stopping = threading.Event()
        self._registry = Registry(0, {})

    def stop(self) -> None:
        """Ask `run` to leave off; safe from a signal handler."""
        self._stopping.set()

    def run(self, choices: Choices) -> Rebuilt:
        """Replay, compare and, unless it is a dry run, exchange."""
        try:
            rebuilt = Rebuilt(self._patiently(self._store.begin))
            self._patiently(lambda: self._check_gaps(rebuilt.shadow, accept=choices.accept_gap))
            self._patiently(lambda: self._catch_up(rebuilt))
            self._patiently(lambda: self._compare(rebuilt, choices))
            if not choices.dry_run:
                self._patiently(lambda: self._exchange(rebuilt, choices))
            elif not choices.keep:
                self._patiently(self._store.discard)
            return rebuilt
        finally:
            self._reader.close()
            self._store.close()

    def _patiently(self, step: Callable[[], T]) -> T:
        """Do a step, again and again while it fails for passing reasons."""
        delay_ms = self._limits.retry_initial_ms
        while True:
            self._leave_off_when_told()
            try:
                return step()
            except FencedError as error:
                message = "the shadow's positions were moved by another process: another rebuild of this register runs"
                raise OperatorError(message) from error
            except TransientError as error:
                _log.warning("the rebuild failed, trying again", error=str(error), delay_s=delay_ms / 1000)
            self._clock.sleep(delay_ms / 1000, self._stopping)
            delay_ms = min(2 * delay_ms, self._limits.retry_max_ms)

    def _leave_off_when_told(self) -> None:
        if self._stopping.is_set():
            raise StoppedError

    def _check_gaps(self, shadow: Shadow, *, accept: bool) -> None:
        if self._store.has_checked_gaps():
            return
        targets = self._store.targets()
        gaps = gaps_of(self._bounds(targets), targets)
        if gaps and not accept:
            refuse_gaps(shadow.register, gaps, self._store.movements_before(gaps))
        self._store.accept_gaps(gaps)

    def _bounds(self, targets: Targets) -> Sequence[LogBounds]:
        if not targets:
            raise RegisterError(
                "the group has no positions: no worker has read anything, so there is nothing to replay"
            )
        bounds = self._reader.bounds(sorted(targets))
        if len(bounds) < len(targets):
            missing = sorted(set(targets) - {bound.topic_partition for bound in bounds})
            raise TransientError(f"the broker does not tell about {', '.join(map(str, missing))}")
        return bounds

    def _catch_up(self, rebuilt: Rebuilt) -> None:
        """Replay until hardly anything is left; each round is as long as what came during the last one."""
        while self._replay(rebuilt) > self._limits.near:
            self._leave_off_when_told()

    def _replay(self, rebuilt: Rebuilt, deadline: float | None = None) -> int:
        """Read and apply what is between the rebuild's positions and the live ones; returns how many offsets."""
        targets = self._store.targets()
        collector = self._claim(targets)
        starts = {tp: claim.next_offset for tp, claim in collector.claims.items()}
        spans = {tp: (start, targets[tp].next_offset) for tp, start in starts.items()}
        behind = sum(end - start for start, end in spans.values())
        if not behind:
            return 0
        self._registry = self._store.registry()
        given_up = self._store.given_up()
        self._reader.open({tp: span for tp, span in spans.items() if span[0] < span[1]})
        total = sum(end for _, end in spans.values())
        while not self._reader.is_done():
            self._leave_off_when_told()
            self._check_time(deadline)
            collector.add(self._reader.read(self._limits.max_events, self._limits.poll_timeout_ms / 1000))
            if collector.is_full(self._limits.max_events, self._limits.max_bytes):
                self._apply(collector, rebuilt, given_up)
                self._report("replaying", sum(c.next_offset for c in collector.claims.values()), total)
        collector.finish(targets)
        self._apply(collector, rebuilt, given_up)
        self._report("replaying", total, total)
        return behind

    def _claim(self, targets: Targets) -> Collector:
        claims = self._store.claim(self._bounds(targets))
        for _, error in claims.stopped:
            raise error
        check_ahead(claims.taken, targets)
        return Collector({claim.topic_partition: claim for claim in claims.taken})

    def _apply(self, collector: Collector, rebuilt: Rebuilt, given_up: GivenUp) -> None:
        while True:
            registry = self._registry
            counts = Replayed()
            items = sort_out(
                (self._decode(registry, message) for message in collector.messages), rebuilt.shadow, given_up, counts
            )
            batch = collector.batch(items, registry.version)
            if not batch.spans:
                return
            try:
                counts.add(self._store.apply(batch, registry))
            except RegistryChangedError:
                self._registry = self._store.registry()
                continue
            collector.advance(batch)
            rebuilt.replayed.include(counts)
            return

    def _compare(self, rebuilt: Rebuilt, choices: Choices) -> None:
        compare = self._meet(rebuilt, choices, lambda _deadline: self._store.compare(choices.most))
        self._report("comparing", 0, 0)
        rebuilt.comparison = compare()
        rebuilt.refusals = self._store.refusals()
        rebuilt.new_refusals = self._store.new_refusals()
        rebuilt.dropped_sql = choices.drop_sql_movements
        if rebuilt.comparison.unsound:
            message = (
                f"the shadow of register {rebuilt.shadow.register} does not agree with its own movements:"
                f" {rebuilt.comparison.unsound} differences. Nothing was exchanged; please report this"
            )
            raise RegisterError(message)

    def _exchange(self, rebuilt: Rebuilt, choices: Choices) -> None:
        def exchange(deadline: float) -> None:
            self._wait_for_readers(deadline)
            self._store.exchange()

        if rebuilt.new_refusals and not choices.accept_refusals:
            reasons = ", ".join(f"{number:,} {reason}" for reason, number in sorted(rebuilt.refusals.items()))
            message = (
                f"register {rebuilt.shadow.register}: {rebuilt.new_refusals:,} events that are applied now would be"
                f" refused ({reasons}). Nothing was exchanged. With --accept-refusals they become dead letters;"
                " --discard gives the rebuild up"
            )
            raise RegisterError(message)
        if self._store.is_under_way():
            self._meet(rebuilt, choices, exchange)
        # Else the reply to the COMMIT was lost, and the next look finds the rebuild finished.
        rebuilt.exchanged = True

    def _meet(self, rebuilt: Rebuilt, choices: Choices, then: Callable[[float], T]) -> T:
        """Bring the shadow to exactly where the stream is, and do something there while the stream waits."""
        self._catch_up(rebuilt)
        self._store.carry(drop=choices.drop_sql_movements)
        self._wait_for_readers(None)
        self._catch_up(rebuilt)
        with self._store.hold():
            deadline = self._clock.now() + self._limits.hold_ms / 1000
            self._replay(rebuilt, deadline)
            rebuilt.carried = self._store.carry(drop=choices.drop_sql_movements)
            return then(deadline)

    def _wait_for_readers(self, deadline: float | None) -> None:
        """Wait until nobody reads in a snapshot that does not have all of the shadow."""
        older = self._store.snapshots()
        while older:
            self._leave_off_when_told()
            self._check_time(deadline)
            if deadline is None:
                self._report(f"waiting for readers that began earlier, {len(older)} of them", 0, 0)
            self._clock.sleep(_LOOK_AGAIN_S, self._stopping)
            older &= self._store.snapshots()

    def _check_time(self, deadline: float | None) -> None:
        if deadline is not None and self._clock.now() >= deadline:
            raise BusyError("the stream was kept waiting for long enough; it is let go, and caught up with again")
