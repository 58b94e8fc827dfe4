"""The one transaction: positions, recorders, dead letters, movements and, through the triggers, totals and balances.

compare-and-set the positions        any other row count: fenced, nothing happened
lock the recorders, plan             duplicates and stale events drop out
write recorders, dead letters, the batch's row
confirm                              Kafka has told that the events are of the topics that were claimed
delete and COPY movements            their triggers fold; cells are locked only now
COMMIT
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import psycopg

from ingest.domain.applying import Applied, Claims, Registry, Standing
from ingest.domain.batches import Batch, Decoded
from ingest.domain.messages import Reason, Refusal
from ingest.domain.plans import Outcome, Plan, plan_batch, refuse
from ingest.domain.positions import Claim, LogBounds, PartitionKey, TopicPartition
from ingest.domain.streaks import cut_batch, follow_streaks
from ingest.errors import DataError, FencedError, OperatorError, RegistryChangedError, TooLargeError, TransientError
from ingest.postgres.arrays import number_array, time_array
from ingest.postgres.connections import CHECK_VIOLATION, Connection, Database, translated_errors
from ingest.postgres.hanging import end_hung_sessions
from ingest.postgres.identity import Identity
from ingest.postgres.partitions import Partitions
from ingest.postgres.positions import Claiming, are_held, standing_of, write_streaks
from ingest.postgres.registers import read_registry
from ingest.postgres.writing import Writer, event_time


@dataclass(slots=True)
class BatchStore:
    """Applies batches over one connection of its own; one batch at a time.

    Claims and declarations are read over connections of their own, so that they may be asked for during a batch.
    """

    database: Database
    consumer_group: str
    worker: str
    most_in_a_row: int = 0
    # Whether a batch keeps declarations as they are, or somebody has seen to that already.
    holds_registry: bool = True
    _connection: Connection | None = None
    _partitions: Partitions = field(default_factory=Partitions)
    _identity: Identity = field(default_factory=Identity)

    def apply(self, batch: Batch, registry: Registry) -> Applied:
        """Apply the batch, or raise what is to be done about it; nothing is half applied.

        Events that only the database could refuse become dead letters; the rest of the batch is applied. A partition
        with too many dead letters in a row is applied up to the last of them.
        """
        with self._transaction_errors():
            while True:
                try:
                    return self._apply_somehow(batch, registry)
                except _EnoughError as enough:
                    batch = cut_batch(batch, enough.cuts)

    def registry(self) -> Registry:
        """Read the declarations."""
        return read_registry(self.database)

    def claim(self, bounds: Sequence[LogBounds]) -> Claims:
        """Take partitions, and say where to read on."""
        claiming = Claiming(self.database, self.consumer_group, self.worker, self.most_in_a_row)
        with self.database.connect() as connection:
            self._identity.check(connection, self.database)
            return claiming.claim(connection, bounds)

    def standing(self, batch: Batch) -> Standing:
        """Tell what became of a batch whose commit was interrupted."""
        with self._transaction_errors():
            connection = self._connected()
            with connection.transaction():
                connection.execute(self.database.compose("limit_waiting"), self.database.limits)
                # The batch may have failed because it waited for one of them.
                end_hung_sessions(connection, self.database)
                return standing_of(connection, self.database, batch)

    def holds(self, claims: Sequence[Claim]) -> bool:
        """Tell whether all positions are where these claims have them."""
        return are_held(self.database, claims)

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _apply_somehow(self, batch: Batch, registry: Registry) -> Applied:
        try:
            return self._apply(batch, registry)
        except DataError as error:
            # Before anybody is blamed: somebody may have removed a partition. And a session that looked partitions up
            # at the moment in which another one was attached may not see that one; a new session does.
            self._partitions.forget()
            if error.sqlstate == CHECK_VIOLATION:
                self.close()
        return self._apply_without_offenders(batch, registry)

    def _apply(self, batch: Batch, registry: Registry, *, probe: bool = False) -> Applied:
        connection = self._connected()
        items = batch.items
        clock = _Clock()
        with translated_errors():
            self._partitions.ensure(connection, self.database, items)
            clock.lap("partitions")
            with connection.transaction():
                batch_id, in_a_row = self._advance(connection, batch, registry)
                writer = self._writer(connection, batch, registry)
                states = writer.lock_recorders(items)
                clock.lap("lock")
                plan = plan_batch(items, states, writer.find_spilled(items, states))
                streaks = follow_streaks(items, plan.refusals, in_a_row, self.most_in_a_row)
                if streaks.cuts:
                    raise _EnoughError(streaks.cuts)
                clock.lap("plan")
                writer.write_recorders(plan, batch_id)
                writer.write_dead_letters(plan.refusals, batch_id)
                self._write_batch(connection, batch, plan, batch_id)
                stops = write_streaks(connection, self.database, batch, in_a_row, streaks, self.most_in_a_row)
                # No cell is locked yet: nobody else waits while Kafka is waited for.
                batch.confirm()
                clock.lap("recorders")
                writer.write_movements(plan, batch_id)
                clock.lap("movements")
                if probe:
                    raise psycopg.Rollback
        clock.lap("commit")
        return replace(_applied(plan, batch_id, clock.seconds), stopped=stops)

    def _advance(
        self, connection: Connection, batch: Batch, registry: Registry
    ) -> tuple[int, dict[TopicPartition, int]]:
        """Move the positions on; returns the batch's number, and how many dead letters in a row each had before."""
        database = self.database
        spans = batch.spans
        if not spans:
            raise FencedError("its partitions were stopped before it began")
        parameters = {
            "hold_registry": self.holds_registry,
            "position_ids": number_array([span.claim.position_id for span in spans]),
            "expected": number_array([span.claim.next_offset for span in spans]),
            "epochs": number_array([span.claim.epoch for span in spans]),
            "next_offsets": number_array([span.next_offset for span in spans]),
            "last_event_at": time_array([event_time(span.last_timestamp_ms) for span in spans]),
            "attempts": number_array([span.claim.attempts for span in spans]),
        }
        with connection.pipeline():
            connection.execute(database.compose("limit_waiting"), database.limits)
            begun = connection.execute(database.compose("begin_batch"), parameters)
        ((batch_id, version, advanced, in_a_row),) = cast("list[tuple[int, int, int, list[int]]]", begun.fetchall())
        if version != registry.version or version != batch.registry_version:
            message = "a register was changed after this batch was decoded"
            raise RegistryChangedError(message)
        if advanced != len(spans):
            message = f"{len(spans) - advanced} of {len(spans)} partitions have another owner or position now"
            raise FencedError(message)
        return batch_id, {span.claim.topic_partition: before for span, before in zip(spans, in_a_row, strict=True)}

    def _writer(self, connection: Connection, batch: Batch, registry: Registry) -> Writer:
        position_ids: dict[PartitionKey, int] = {
            span.claim.topic_partition: span.claim.position_id for span in batch.spans
        }
        return Writer(connection, self.database, registry.registers, position_ids)

    def _write_batch(self, connection: Connection, batch: Batch, plan: Plan, batch_id: int) -> None:
        spans = batch.spans
        outcomes = [plan.outcomes.get(span.claim.topic_partition, Counter()) for span in spans]
        parameters = {
            "batch_id": batch_id,
            "position_ids": number_array([span.claim.position_id for span in spans]),
            "first_offsets": number_array([span.claim.next_offset for span in spans]),
            "next_offsets": number_array([span.next_offset for span in spans]),
            "events": number_array([counts.total() for counts in outcomes]),
            "applied": number_array([counts[Outcome.APPLIED] for counts in outcomes]),
            "duplicates": number_array([counts[Outcome.DUPLICATE] for counts in outcomes]),
            "stale": number_array([counts[Outcome.STALE] for counts in outcomes]),
            "dead_letters": number_array([counts[Outcome.DEAD_LETTER] for counts in outcomes]),
            "movements": number_array([plan.movements.get(span.claim.topic_partition, 0) for span in spans]),
            "worker": self.worker,
        }
        connection.execute(self.database.compose("insert_batch"), parameters)

    def _apply_without_offenders(self, batch: Batch, registry: Registry) -> Applied:
        """Refuse each event with which the batch fails and without which everything before it passes.

        Offenders are often neighbours or alone: the search reaches from one to the next in steps that double, and
        halves the last one, so that one costs the logarithm of the batch and many cost little each.
        """
        items = list(batch.items)
        passes, reach = 0, len(items)
        while True:
            end = min(passes + reach, len(items))
            result = self._attempt(batch, registry, items, end)
            if isinstance(result, Applied):
                if end == len(items):
                    return result
                passes, reach = end, 2 * reach
                continue
            if passes == end:
                message = "a batch that the database refused passes in parts; others write the same cells"
                raise TransientError(message) from result
            first = self._first_failing(batch, registry, items, passes, end)
            # Others write too: what failed a while ago may pass now, and nobody is blamed for that.
            result = self._attempt(batch, registry, items, first, probe=True)
            if isinstance(result, DataError):
                items[first - 1] = _refused(items[first - 1], result)
            passes, reach = first, 2 * (first - passes)

    def _first_failing(
        self, batch: Batch, registry: Registry, items: Sequence[Decoded], passes: int, fails: int
    ) -> int:
        """The number of events with which the batch begins to fail, between these two."""
        while fails - passes > 1:
            middle = (passes + fails) // 2
            if isinstance(self._attempt(batch, registry, items, middle), Applied):
                passes = middle
            else:
                fails = middle
        return fails

    def _attempt(
        self, batch: Batch, registry: Registry, items: Sequence[Decoded], end: int, *, probe: bool = False
    ) -> Applied | DataError:
        """Try the events before `end`; only all of them are committed."""
        probe = probe or end < len(items)
        try:
            return self._apply(replace(batch, items=tuple(items[:end])), registry, probe=probe)
        except DataError as error:
            return error

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            with translated_errors():
                self._connection = self.database.open()
                self._identity.check(self._connection, self.database)
        return self._connection

    @contextmanager
    def _transaction_errors(self) -> Iterator[None]:
        try:
            with translated_errors():
                yield
        except TransientError as error:
            # Whatever state the connection is in, a new one is in none; a fail-over may have moved the server as well.
            self.close()
            if isinstance(error.__cause__, psycopg.errors.OutOfMemory):
                raise TooLargeError(str(error)) from error
            if isinstance(error.__cause__, psycopg.Error) and str(error) == "out of memory":  # libpq's, of this process
                raise MemoryError from error
            raise


class _EnoughError(Exception):
    """Some partitions of a batch reach the limit of dead letters in a row before their end in it."""

    def __init__(self, cuts: Mapping[TopicPartition, int]) -> None:
        super().__init__()
        self.cuts = cuts


@dataclass(slots=True)
class _Clock:
    """Splits the time of a batch by phase."""

    seconds: dict[str, float] = field(default_factory=dict)
    _last: float = field(default_factory=time.perf_counter)

    def lap(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = now - self._last
        self._last = now


def _refused(item: Decoded, error: DataError) -> Refusal:
    if isinstance(item, Refusal):
        # Its texts were made storable, so this is not about the event.
        message = f"PostgreSQL does not take a dead letter: {error}"
        raise OperatorError(message)
    return refuse(item, Reason.REFUSED_BY_DATABASE, error.detail, sqlstate=error.sqlstate)


def _applied(plan: Plan, batch_id: int, seconds: Mapping[str, float]) -> Applied:
    outcomes: Counter[Outcome] = Counter()
    for counts in plan.outcomes.values():
        outcomes.update(counts)
    reasons = Counter(refusal.reason for refusal in plan.refusals)
    registers = {register.register: register.movements for register in plan.registers}
    return Applied(batch_id, outcomes, reasons, sum(plan.movements.values()), registers, seconds)
