"""A worker's way to the server: each statement takes time, and any of them may be the last one that gets through."""

from collections.abc import Sequence
from functools import partial
from random import Random

from ingest.domain.applying import Applied, Claims, Registry, Standing
from ingest.domain.batches import Batch
from ingest.domain.positions import Claim, LogBounds, TopicPartition, check_position
from ingest.errors import PositionError, TransientError
from tests.simulation.scheduler import Process, Scheduler
from tests.simulation.server import Server, Transaction

LATE_COMMIT_S = (0.05, 15.0)


class SimulatedStore:
    """What `BatchStore` is to the real server. `trouble` is how likely a call fails."""

    def __init__(self, scheduler: Scheduler, server: Server, process: Process, rng: Random) -> None:
        self.trouble = 0.0
        self.slowness_s = 0.02
        self._busy = False
        self._scheduler = scheduler
        self._server = server
        self._process = process
        self._rng = rng

    def registry(self) -> Registry:
        """Read the declarations."""
        self._hop()
        return self._server.registry()

    def claim(self, bounds: Sequence[LogBounds]) -> Claims:
        """Take partitions."""
        self._hop()
        server = self._server
        transaction = server.begin(self._process)
        known = [where for where in sorted(map(_where, bounds)) if where in server.positions]
        for where in known:
            server.lock(transaction, where)
        self._hop(transaction)
        taken: list[Claim] = []
        stopped: list[tuple[TopicPartition, PositionError]] = []
        good: list[tuple[LogBounds, int]] = []
        for bound in sorted(bounds, key=_where):
            position = server.positions.get(bound.topic_partition) if bound.topic_partition in known else None
            try:
                next_offset = position.next_offset if position else None
                topic_id = position.topic_id if position else None
                good.append((bound, check_position(next_offset, topic_id, bound)))
            except PositionError as error:
                stopped.append((bound.topic_partition, error))

        for where in (bound.topic_partition for bound, _ in good if bound.topic_partition not in known):
            server.lock(transaction, where)
            if where in server.positions:
                server.abort(transaction)
                server.reached["claimed by two at once"] += 1
                message = "another worker claimed it for the first time"
                raise TransientError(message)

        def change() -> None:
            for bound, next_offset in good:
                claimed = server.take(bound.topic_partition, next_offset, bound.topic_id)
                where = bound.topic_partition
                taken.append(Claim(where, claimed.position_id, claimed.next_offset, claimed.epoch))

        transaction.change = change
        self._commit(transaction)
        server.reached["partition stopped"] += len(stopped)
        return Claims(tuple(taken), tuple(stopped))

    def apply(self, batch: Batch, registry: Registry) -> Applied:
        """Apply a batch in one transaction."""
        assert not self._busy, "two batches at once over one connection"
        self._busy = True
        try:
            return self._apply(batch, registry)
        finally:
            self._busy = False

    def _apply(self, batch: Batch, registry: Registry) -> Applied:
        self._hop()
        server = self._server
        transaction = server.begin(self._process)
        self._hop(transaction)
        server.advance(transaction, batch, registry)
        self._hop(transaction)
        try:
            batch.confirm()
        except BaseException:
            server.abort(transaction)
            raise
        self._hop(transaction)
        done: list[Applied] = []
        transaction.change = lambda: done.append(server.apply(batch))
        self._commit(transaction)
        return done[0]

    def standing(self, batch: Batch) -> Standing:
        """Tell what became of a batch; it locks nothing, so a COMMIT that is still on its way is not seen."""
        self._hop()
        positions = self._server.positions
        rows = [positions.get(span.claim.topic_partition) for span in batch.spans]
        found = [(row.next_offset, row.epoch) if row else None for row in rows]
        reached = self._server.reached
        if found == [(span.next_offset, span.claim.epoch) for span in batch.spans]:
            reached["unknown outcome: committed"] += 1
            return Standing.COMMITTED
        if found == [(span.claim.next_offset, span.claim.epoch) for span in batch.spans]:
            reached["unknown outcome: not committed"] += 1
            return Standing.NOT_COMMITTED
        reached["unknown outcome: fenced"] += 1
        return Standing.FENCED

    def holds(self, claims: Sequence[Claim]) -> bool:
        """Tell whether all positions are where these claims have them."""
        self._hop()
        found = [self._server.positions.get(claim.topic_partition) for claim in claims]
        held = [(p.next_offset, p.epoch) if p else None for p in found] == [(c.next_offset, c.epoch) for c in claims]
        self._server.reached["positions taken back"] += not held
        return held

    def close(self) -> None:
        """Close the connection: whatever is open is rolled back."""
        if not self._process.dead:
            self._server.orphan(self._process)

    def _commit(self, transaction: Transaction) -> None:
        """Send COMMIT and wait for the reply. What is lost on the way is the difference between three failures."""
        server = self._server
        transaction.committing = True
        if self._rng.random() < self.trouble:
            how = self._rng.choice(("before", "after", "late"))
            if how == "before":
                server.abort(transaction)
            elif how == "after":
                self._wait()
                server.commit(transaction)
            else:
                # The client is cut off while COMMIT is on its way: it takes place when the client has long asked.
                server.reached["late COMMIT"] += 1
                self._scheduler.start(Process("server"), partial(self._commit_later, transaction))
            message = f"the connection was lost {how} COMMIT"
            raise TransientError(message)
        self._wait()
        server.commit(transaction)
        self._wait()

    def _commit_later(self, transaction: Transaction) -> None:
        self._scheduler.sleep(self._rng.uniform(*LATE_COMMIT_S))
        if not transaction.ended:
            self._server.commit(transaction)

    def _hop(self, transaction: Transaction | None = None) -> None:
        """One round trip."""
        self._wait()
        if transaction is None:
            self._server.check_up()
        else:
            self._server.touch(transaction)
        if self._rng.random() < self.trouble / 3:
            if transaction is not None and self._rng.random() < 0.5:
                # Otherwise the connection is half open: the server keeps the locks until it has had enough.
                self._server.abort(transaction)
            message = "the connection was lost"
            raise TransientError(message)

    def _wait(self) -> None:
        self._scheduler.sleep(self._rng.uniform(0.1, 1.0) * self.slowness_s)


def _where(bounds: LogBounds) -> TopicPartition:
    return bounds.topic_partition
