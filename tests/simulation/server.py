"""PostgreSQL as far as a worker can tell: positions under epochs, row locks, transactions, and what can befall them.

It is an exact model of what the product's SQL promises, and the judge: whatever is committed has to be a stretch of the
log, decoded under the present declarations, and no record is ever applied twice.

A transaction lives in the server. Its client may be killed or cut off at any moment; then the server rolls it back when
it notices, unless the COMMIT has already reached it.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from ingest.domain.applying import Applied, Registry
from ingest.domain.batches import Batch, Span
from ingest.domain.messages import Event, Refusal
from ingest.domain.plans import Outcome
from ingest.domain.positions import TopicPartition
from ingest.errors import FencedError, RegistryChangedError, TransientError
from tests.simulation.log import PartitionLog, Record
from tests.simulation.scheduler import Process, Scheduler, Signal
from tests.support.events import INVENTORY

LOCK_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Position:
    """A row of `_positions`."""

    position_id: int
    next_offset: int
    epoch: int
    topic_id: str | None


@dataclass(slots=True, eq=False)
class Transaction:
    """An open transaction of a process."""

    process: Process
    touched_at: float
    locked: list[TopicPartition] = field(default_factory=list)
    holds_registry: bool = False
    committing: bool = False
    change: Callable[[], None] | None = None
    ended: bool = False


class Server:
    """The one database."""

    def __init__(self, scheduler: Scheduler, logs: Mapping[TopicPartition, PartitionLog], rng: Random) -> None:
        self.down_until = 0.0
        self.positions: dict[TopicPartition, Position] = {}
        self.furthest: Counter[TopicPartition] = Counter()
        self.version = 1
        self.declared = ["sales"]
        self.outcomes: dict[int, Outcome] = {}
        self.applied: dict[str, list[int]] = {}
        self.seen = Counter[str]()
        self.reached: Counter[str] = Counter()
        self._scheduler = scheduler
        self._logs = logs
        self._rng = rng
        self._ids: dict[str, set[str]] = {}
        self._journal: list[Callable[[], None]] = []
        self._open: list[Transaction] = []
        self._locks: dict[TopicPartition, Transaction] = {}
        self._changed = Signal(scheduler)

    # ------------------------------------------------------------------------------------- what a client asks for

    def begin(self, process: Process) -> Transaction:
        """Open a transaction."""
        self.check_up()
        transaction = Transaction(process, self._scheduler.now)
        self._open.append(transaction)
        return transaction

    def check_up(self) -> None:
        """Fail as a connection does when nobody listens."""
        if self._scheduler.now < self.down_until:
            message = "connection refused"
            raise TransientError(message)

    def registry(self) -> Registry:
        """The declarations."""
        return Registry(self.version, dict.fromkeys(self.declared, INVENTORY))

    def lock(self, transaction: Transaction, where: TopicPartition) -> None:
        """Lock a position's row, or fail when that takes too long."""
        deadline = self._scheduler.now + LOCK_TIMEOUT_S
        while self._locks.get(where, transaction) is not transaction:
            left = deadline - self._scheduler.now
            if left <= 0:
                self.abort(transaction)
                self.reached["lock timeout"] += 1
                message = "canceling statement due to lock timeout"
                raise TransientError(message)
            self._scheduler.wait(self._changed, left)
            self.touch(transaction)
        self._locks[where] = transaction
        transaction.locked.append(where)

    def touch(self, transaction: Transaction) -> None:
        """Any statement of an open transaction."""
        if transaction.ended:
            message = "server closed the connection unexpectedly"
            raise TransientError(message)
        transaction.touched_at = self._scheduler.now

    def advance(self, transaction: Transaction, batch: Batch, registry: Registry) -> None:
        """Compare and set the positions, under the declarations of the batch."""
        transaction.holds_registry = True
        for span in sorted(batch.spans, key=_partition):
            self.lock(transaction, span.claim.topic_partition)
        if not self.version == registry.version == batch.registry_version:
            self.abort(transaction)
            self.reached["declarations changed"] += 1
            message = "a register was changed after this batch was decoded"
            raise RegistryChangedError(message)
        if not all(self._is_ours(span) for span in batch.spans):
            self.abort(transaction)
            self.reached["fenced commit"] += 1
            message = "another owner"
            raise FencedError(message)

    def commit(self, transaction: Transaction) -> None:
        """End it; what it changes is there."""
        self.touch(transaction)
        if transaction.change is not None:
            transaction.change()
        self._end(transaction)

    def abort(self, transaction: Transaction) -> None:
        """Roll back."""
        if not transaction.ended:
            self._end(transaction)

    # ----------------------------------------------------------------------------------------- what befalls it

    def crash(self, seconds: float) -> None:
        """kill -9 and recovery: what was not committed is gone."""
        self.down_until = max(self.down_until, self._scheduler.now + seconds)
        for transaction in list(self._open):
            self.abort(transaction)

    def fail_over(self, commits: int, seconds: float) -> None:
        """A standby takes over that has not seen the last commits."""
        self.crash(seconds)
        for _ in range(min(commits, len(self._journal))):
            self._journal.pop()()

    def orphan(self, process: Process) -> None:
        """A client is gone: a COMMIT may have arrived, everything else is rolled back."""
        for transaction in [t for t in self._open if t.process is process]:
            if transaction.committing and self._rng.random() < 0.5:
                self.reached["killed after COMMIT was sent"] += 1
                self.commit(transaction)
            else:
                self.abort(transaction)

    def end_idle(self) -> None:
        """What `idle_in_transaction_session_timeout` does."""
        for transaction in list(self._open):
            if self._scheduler.now - transaction.touched_at > IDLE_TIMEOUT_S:
                self.reached["idle transaction ended"] += 1
                self.abort(transaction)

    def declare(self, register: str) -> bool:
        """Change the declarations; not while a batch holds them."""
        if any(transaction.holds_registry for transaction in self._open):
            return False
        before = self.version, list(self.declared)

        def undo() -> None:
            self.version, self.declared = before

        self.declared = [*self.declared, register]
        self.version += 1
        self._journal.append(undo)
        return True

    def set_position(self, where: TopicPartition, changed: Position) -> bool:
        """What a person does to a partition that stopped; not while somebody holds it."""
        if where in self._locks:
            return False
        self._set(where, changed)
        return True

    def next_epoch(self, epoch: int) -> int:
        """Not a mere count: a fail-over takes counts back."""
        return max(epoch + 1, int(self._scheduler.now * 1_000_000))

    # ------------------------------------------------------------------------------------- what commits come to

    def take(self, where: TopicPartition, next_offset: int, topic_id: str | None) -> Position:
        """Claim a partition; part of a transaction that holds its row."""
        known = self.positions.get(where)
        claimed = (
            Position(len(self.positions), next_offset, self.next_epoch(0), topic_id)
            if known is None
            else replace(known, epoch=self.next_epoch(known.epoch), topic_id=topic_id)
        )
        self._set(where, claimed)
        return claimed

    def apply(self, batch: Batch) -> Applied:
        """Apply a batch, and judge it."""
        self._judge(batch)
        before = {span.claim.topic_partition: self.positions[span.claim.topic_partition] for span in batch.spans}
        serials: list[tuple[int, str, str | None]] = []
        counts: Counter[Outcome] = Counter()

        def undo() -> None:
            self.positions.update(before)
            for serial, recorder, event_id in reversed(serials):
                del self.outcomes[serial]
                if event_id is not None:
                    assert self.applied[recorder].pop() == serial
                    self._ids[recorder].remove(event_id)

        for span in batch.spans:
            where = span.claim.topic_partition
            self.positions[where] = replace(self.positions[where], next_offset=span.next_offset)
            self.furthest[where] = max(self.furthest[where], span.next_offset)
        for item in batch.items:
            serial, _, recorder, event_id = (item.message.value or b"").decode().split()
            outcome = self._outcome(int(serial), item, recorder, event_id)
            counts[outcome] += 1
            serials.append((int(serial), recorder, event_id if outcome is Outcome.APPLIED else None))
        self._journal.append(undo)
        return Applied(len(self._journal), counts, {}, counts[Outcome.APPLIED])

    def _outcome(self, serial: int, item: Event | Refusal, recorder: str, event_id: str) -> Outcome:
        assert serial not in self.outcomes, f"event {serial} is applied a second time"
        ids = self._ids.setdefault(recorder, set())
        if isinstance(item, Refusal):
            outcome = Outcome.DEAD_LETTER
        elif event_id in ids:
            outcome = Outcome.DUPLICATE
        else:
            outcome = Outcome.APPLIED
            ids.add(event_id)
            order = self.applied.setdefault(recorder, [])
            assert not order or order[-1] < serial, f"event {serial} of {recorder} comes after {order[-1]}"
            order.append(serial)
        self.outcomes[serial] = outcome
        self.reached[f"event {outcome.value}"] += 1
        return outcome

    def _judge(self, batch: Batch) -> None:
        """The items of each span are a stretch of a log, no more and no less, and decoded as the declarations say."""
        for span in batch.spans:
            where = span.claim.topic_partition
            given = [i for i in batch.items if (i.message.topic, i.message.partition) == (where.topic, where.partition)]
            offsets = [item.message.offset for item in given]
            values = [item.message.value for item in given]
            stretches = [
                lineage.between(span.claim.next_offset, span.next_offset) for lineage in self._logs[where].lineages
            ]
            assert any(_is_stretch(offsets, values, stretch, where) for stretch in stretches), (
                f"{where}: offsets {offsets} are not what is in the log from {span.claim.next_offset}"
                f" to before {span.next_offset}: {[[r.offset for r in stretch] for stretch in stretches]}"
            )
        for item in batch.items:
            register = (item.message.value or b"").decode().split()[1]
            known = register in self.declared
            assert isinstance(item, Event) is known, f"an event of {register} was decoded under other declarations"

    def _is_ours(self, span: Span) -> bool:
        position = self.positions.get(span.claim.topic_partition)
        return position is not None and (position.next_offset, position.epoch) == (
            span.claim.next_offset,
            span.claim.epoch,
        )

    def _set(self, where: TopicPartition, changed: Position) -> None:
        before = self.positions.get(where)

        def undo() -> None:
            if before is None:
                del self.positions[where]
            else:
                self.positions[where] = before

        self.positions[where] = changed
        self.furthest[where] = max(self.furthest[where], changed.next_offset)
        self._journal.append(undo)

    def _end(self, transaction: Transaction) -> None:
        transaction.ended = True
        self._open.remove(transaction)
        for where in transaction.locked:
            del self._locks[where]
        transaction.locked.clear()
        self._changed.notify()


def _partition(span: Span) -> TopicPartition:
    return span.claim.topic_partition


def _is_stretch(offsets: list[int], values: list[bytes | None], stretch: list[Record], where: TopicPartition) -> bool:
    return offsets == [r.offset for r in stretch] and values == [r.message(where).value for r in stretch]
