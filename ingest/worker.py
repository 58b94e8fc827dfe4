"""The story: poll, decode, batch, apply, commit, and again; and what happens when something stands in the way.

One thread polls and decodes the next batches while others commit the current ones, one in each lane. What is in memory
may be dropped at any moment: the positions in PostgreSQL say what was applied, and whoever owns a partition reads on
from there.

    a batch failed for a passing reason      retried with backoff until it is through, or fenced
    a declaration changed                    decoded again
    memory is short                          read again in halves, after a process that was killed too
    somebody else owns a partition           everything in memory is dropped, the group is joined anew
    a topic was created anew                 the same: what was read of it is not committed
    a partition's log and position disagree  that partition is not read; the others are
    a partition's events are all refused     after so many it is not read on; a person decides
    stop                                     what was read is committed within a budget, then the group is left
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import structlog

from ingest.delays import Clock, Delays
from ingest.domain.applying import Applied, Claims, Registry, Standing, Stop, Store
from ingest.domain.batches import Batch, BatchLimits
from ingest.domain.decoding import Decode
from ingest.domain.lanes import Background, InFlight, Lanes
from ingest.domain.messages import Message
from ingest.domain.positions import Claim, LogBounds, TopicPartition
from ingest.domain.progress import Progress
from ingest.domain.reading import Source
from ingest.errors import FencedError, RegistryChangedError, TooLargeError, TransientError

# How long nothing is read while a commit is waited for: a look costs as much as decoding some events does.
_READ_AGAIN_S: Final = 0.015

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How much at a time, and how long to wait for what."""

    batch: BatchLimits = field(default_factory=BatchLimits)
    poll_max_messages: int = 300
    poll_timeout_ms: int = 50
    retry_initial_ms: int = 100
    retry_max_ms: int = 10_000
    revoke_budget_ms: int = 10_000
    stop_budget_ms: int = 20_000
    stall_after_ms: int = 5_000
    report_every_ms: int = 10_000
    check_every_ms: int = 10_000


class Worker:
    """One member of the consumer group: `run` returns after `stop`, or raises what a person must look at."""

    def __init__(
        self,
        source: Source,
        stores: Sequence[Store],
        decode: Decode,
        clock: Clock,
        limits: WorkerLimits,
        background: Background,
    ) -> None:
        self.progress = Progress()
        self._source = source
        self._stores = stores
        self._store = stores[0]
        self._decode = decode
        self._clock = clock
        self._limits = limits
        self._background = background
        self._registry = Registry(0, {})
        self._lanes = Lanes(stores, limits.batch)
        self._claimed: dict[TopicPartition, int] = {}
        self._reading_delays = Delays(limits.retry_initial_ms, limits.retry_max_ms)
        self._stopping = threading.Event()
        self._telling = threading.Lock()
        self._reported_at = self._checked_at = clock.now()
        self._has_stopped_some = False

    def run(self) -> None:
        """Apply events until told to stop."""
        try:
            self._read_registry()
            if not self._stopping.is_set():
                self._source.start(self._on_assigned, self._on_revoked)
                _log.info("started", registers=sorted(self._registry.registers))
            while not self._stopping.is_set():
                self._step()
            self._drain()
        finally:
            self._source.close()
            for store in self._stores:
                store.close()
            _log.info("stopped", **self.progress.summary())

    def stop(self) -> None:
        """Ask `run` to finish; safe from a signal handler and from other threads."""
        self.progress.loop.stopping = True
        self._stopping.set()

    def _step(self) -> None:
        try:
            most = self._lanes.most_messages(self._limits.poll_max_messages)
            messages = self._poll(most, self._poll_timeout_s())
            self._collect(messages)
            self._mirror_claims()
            self._settle()
            if self._has_stopped_some:
                self._rejoin()
            self._check_claims()
            self._submit()
            if len(messages) < most:
                self._await_commit()
        except FencedError as error:
            self.progress.fenced += 1
            _log.warning("fenced: the batch was dropped; claiming its partitions anew", error=str(error))
            self._rejoin()
        except (TransientError, TooLargeError) as error:
            # PostgreSQL could not be asked where to read on, or has no room for a batch, or a registry has no answer.
            _log.warning("cannot read on; trying again from the stored positions", error=str(error))
            self._clock.sleep(self._reading_delays.take_s(), self._stopping)
            self._rejoin()
        self._report()

    def _poll(self, most: int, timeout_s: float) -> Sequence[Message]:
        began = self._clock.now()
        messages = self._source.poll(most, timeout_s)
        # Without messages it was waiting, and there was nothing to do.
        now = self._spent("poll" if messages else "idle", began)
        self.progress.loop.turn(now)
        self.progress.see(self._source.state(), now)
        return messages

    def _spent(self, phase: str, began: float) -> float:
        now = self._clock.now()
        self.progress.spend(phase, now - began)
        return now

    def _mirror_claims(self) -> None:
        """Tell Kafka what a former owner may have committed without telling."""
        if self._claimed:
            self._source.mirror(self._claimed)
            self._claimed = {}

    def _check_claims(self) -> None:
        """A fail-over may have taken positions back; a partition without new events would not find out by itself."""
        now = self._clock.now()
        if (now - self._checked_at) * 1000 < self._limits.check_every_ms:
            return
        self._checked_at = now
        moving = self._lanes.moving
        idle = [claim for where, claim in self._lanes.claims.items() if where not in moving]
        try:
            if idle and not self._store.holds(idle):
                raise FencedError("positions are not where they were left")
        except TransientError as error:
            _log.debug("positions could not be checked", error=str(error))

    def _collect(self, messages: Sequence[Message]) -> None:
        if not messages:
            return
        # A register that is unknown here may have been declared a moment ago: applying the batch will tell.
        registry = self._registry
        began = self._clock.now()
        with self.progress.decoding(self._clock.now):
            items = [self._decode(registry, message) for message in messages]
        self._lanes.add(items, registry.version, self._spent("decode", began))
        self._reading_delays.reset()

    def _submit(self) -> None:
        """Have committed what is due; where a lane is full that cannot go on, reading waits for it."""
        self._start(self._lanes.take(self._clock.now()))
        if self._lanes.is_blocked:
            self._wait_for_commit()

    def _await_commit(self) -> None:
        """While events wait for a commit, wait for that: the source does not return when it is through."""
        if self._lanes.waits_for_commit:
            began = self._clock.now()
            if self._background.wait([one.result for one in self._lanes.in_flight], _READ_AGAIN_S):
                self._settle()
                self._start(self._lanes.take(self._clock.now()))
            self._spent("idle", began)

    def _start(self, batches: Sequence[InFlight]) -> None:
        for in_flight in batches:
            batch = in_flight.batch
            in_flight.batch = replace(batch, confirm=self._source.confirm(batch.next_offsets))
            self._background.start(partial(self._commit, in_flight))

    def _commit(self, in_flight: InFlight) -> None:
        """Run in a thread of its own."""
        try:
            applied = self._apply(in_flight)
        except BaseException as error:  # noqa: BLE001 - handed to the polling thread, which raises it
            self._say_whether_failing(in_flight, failing=False)
            in_flight.result.set_exception(error)
        else:
            self._say_whether_failing(in_flight, failing=False)
            in_flight.result.set_result(applied)

    def _apply(self, in_flight: InFlight) -> Applied:
        delays = Delays(self._limits.retry_initial_ms, self._limits.retry_max_ms)
        doubtful = stale = False
        while True:
            try:
                return self._attempt(in_flight.store, in_flight.batch, doubtful=doubtful, stale=stale)
            except RegistryChangedError as error:
                problem: Exception = error
                again, stale = stale, True
                if not again:
                    continue
            except TransientError as error:
                problem, doubtful = error, True
            if self._stopping.is_set():
                message = f"told to stop while the batch was failing: {problem}"
                raise TransientError(message) from problem
            self._say_whether_failing(in_flight, failing=True)
            delay_s = delays.take_s()
            _log.warning("batch failed, trying again", error=str(problem), delay_s=round(delay_s, 3))
            self._clock.sleep(delay_s, self._stopping)

    def _say_whether_failing(self, in_flight: InFlight, *, failing: bool) -> None:
        with self._telling:
            self.progress.retries += failing
            in_flight.failing = failing
            self.progress.loop.failing = self._lanes.is_failing

    def _attempt(self, store: Store, batch: Batch, *, doubtful: bool, stale: bool) -> Applied:
        if doubtful and self._is_committed(store, batch):
            return Applied()
        if stale:
            self._registry = store.registry()
        registry = self._registry
        if batch.registry_version != registry.version:
            items = tuple(self._decode(registry, message) for message in batch.messages)
            batch = replace(batch, items=items, registry_version=registry.version)
        return store.apply(batch, registry)

    def _is_committed(self, store: Store, batch: Batch) -> bool:
        """Ask the positions after a failure: the reply to a COMMIT may have been lost, or the server replaced."""
        standing = store.standing(batch)
        _log.info("it was unknown what became of a batch", standing=standing.value)
        if standing is Standing.FENCED:
            message = "its positions were moved while its outcome was unknown"
            raise FencedError(message)
        return standing is Standing.COMMITTED

    def _settle(self) -> None:
        """Take the results of the commits that are through."""
        for landed in self._lanes.landed():
            applied = landed.result.result()
            self.progress.add(landed.batch, applied)
            stopped_at = {stop.topic_partition: stop.next_offset for stop in applied.stopped}
            self._source.mirror({**landed.batch.next_offsets, **stopped_at})
            self._give_up(applied.stopped)
            events = len(landed.batch.items)
            _log.debug("committed", batch_id=applied.batch_id, events=events, movements=applied.movements)

    def _give_up(self, stopped: Sequence[Stop]) -> None:
        """Read no more of these partitions: the next claim refuses them until a person has decided."""
        for stop in stopped:
            self.progress.stopped[stop.topic_partition] = stop.error
            _log.error("partition stopped", topic_partition=str(stop.topic_partition), error=str(stop.error))
            self._has_stopped_some = True
        self._lanes.release([stop.topic_partition for stop in stopped])

    def _wait_for_commit(self) -> None:
        """Hold reading back; after a while keep polling, paused, so that the group does not give us up."""
        if self._held_back(self._limits.stall_after_ms / 1000):
            return
        _log.warning("waiting for PostgreSQL; reading is paused")
        self._source.pause()
        try:
            while not self._stopping.is_set() and not self._held_back(self._limits.poll_timeout_ms / 1000):
                self._collect(self._poll(1, self._limits.poll_timeout_ms / 1000))
        finally:
            self._source.resume()

    def _held_back(self, timeout_s: float) -> bool:
        """Let lanes go on as they come free; says whether reading can go on within the time."""
        began = self._clock.now()
        while self._lanes.is_blocked:
            left_s = max(0.0, timeout_s - (self._clock.now() - began))
            if not self._background.wait([one.result for one in self._lanes.in_flight], left_s):
                break
            self._settle()
            self._start(self._lanes.take(self._clock.now()))
        self._spent("held_back", began)
        return not self._lanes.is_blocked

    def _on_assigned(self, bounds: Sequence[LogBounds]) -> Sequence[Claim]:
        claims = self._store.claim(bounds) if bounds else Claims((), ())
        for topic_partition, error in claims.stopped:
            _log.error("partition stopped", topic_partition=str(topic_partition), error=str(error))
        self.progress.claim(claims, self._clock.now())
        self._lanes.claim(claims.taken, {each.topic_partition.topic: each.partitions for each in bounds})
        self._claimed |= {claim.topic_partition: claim.next_offset for claim in claims.taken if claim.next_offset}
        _log.info("partitions assigned", positions={str(c.topic_partition): c.next_offset for c in claims.taken})
        return claims.taken

    def _on_revoked(self, partitions: Sequence[TopicPartition], lost: bool) -> None:  # noqa: FBT001 - a callback
        # What waits is dropped, not committed: the next owner reads it again, and the hand-over stays short.
        self._lanes.release(partitions)
        if not lost:
            self._finish_in_flight(self._limits.revoke_budget_ms)
        self._lanes.gather(self._clock.now())
        self.progress.release(partitions)
        _log.info("partitions lost" if lost else "partitions revoked", partitions=[str(p) for p in partitions])

    def _rejoin(self) -> None:
        self._lanes.release(list(self._lanes.claims))
        self._finish_in_flight(self._limits.revoke_budget_ms)
        self.progress.release(list(self.progress.reaches))
        self._has_stopped_some = False
        self._source.rejoin()

    def _finish_in_flight(self, budget_ms: int) -> bool:
        """Wait for all commits, at most so long; says whether they all came through."""
        deadline = self._clock.now() + budget_ms / 1000
        passed = True
        while in_flight := self._lanes.in_flight:
            left_s = max(0.0, deadline - self._clock.now())
            if not self._background.wait([one.result for one in in_flight], left_s):
                _log.warning("a batch is still being committed; its positions will tell whether it was in time")
                return False
            try:
                self._settle()
            except FencedError:
                self.progress.fenced += 1
                passed = False
            except (TransientError, TooLargeError) as error:
                _log.warning("a batch was dropped; it will be read again", error=str(error))
                passed = False
        return passed

    def _drain(self) -> None:
        """Commit what was read, within the budget; what is left is read again by the next owner."""
        deadline = self._clock.now() + self._limits.stop_budget_ms / 1000
        if self._finish_in_flight(self._limits.stop_budget_ms):
            self._start(self._lanes.take_all())
            self._finish_in_flight(max(0, round((deadline - self._clock.now()) * 1000)))

    def _read_registry(self) -> None:
        """Read the declarations, however long PostgreSQL takes to come up; gives up only when told to stop."""
        delays = Delays(self._limits.retry_initial_ms, self._limits.retry_max_ms)
        while not self._stopping.is_set():
            self.progress.loop.turn(self._clock.now())
            try:
                self._registry = self._store.registry()
            except TransientError as error:
                _log.warning("PostgreSQL is not available, waiting", error=str(error))
                self._clock.sleep(delays.take_s(), self._stopping)
            else:
                return

    def _poll_timeout_s(self) -> float:
        due_in_s = self._lanes.due_in_s(self._clock.now())
        longest = self._limits.poll_timeout_ms / 1000
        return longest if due_in_s is None else min(longest, due_in_s)

    def _report(self) -> None:
        now = self._clock.now()
        if (now - self._reported_at) * 1000 >= self._limits.report_every_ms:
            self._reported_at = now
            _log.info("progress", **self.progress.summary())
