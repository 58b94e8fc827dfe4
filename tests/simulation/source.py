"""The consumer group and a member's side of it, with the promises of `KafkaSource` and the surprises of librdkafka.

Callbacks run inside `poll`; what they raise is kept and raised by `poll` until the group is joined anew; what was not
claimed is offered again; a member that is not heard of loses its partitions and learns that later.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random

from ingest.domain.messages import Message
from ingest.domain.positions import Claim, LogBounds, TopicPartition
from ingest.domain.progress import KafkaState, LogEnd
from ingest.errors import FencedError, TransientError
from tests.simulation.log import PartitionLog
from tests.simulation.scheduler import Process, Scheduler, Signal
from tests.simulation.server import Server

SESSION_TIMEOUT_S = 10.0
MAX_POLL_INTERVAL_S = 60.0
# A poll takes some time; less than this would be lost in the clock's rounding.
SHORTEST_POLL_S = 0.02
OFFER_AGAIN_S = 30.0
OFFER_AFTER_REJOINING_S = 5.0


class Group:
    """The coordinator: who is a member, who shall have what, and who has it."""

    def __init__(self, scheduler: Scheduler, logs: Mapping[TopicPartition, PartitionLog], rng: Random) -> None:
        self.logs = logs
        self.members: list[SimulatedSource] = []
        self.down_until = 0.0
        self.arrived = Signal(scheduler)
        self.reached: Counter[str] = Counter()
        self.targets: dict[TopicPartition, SimulatedSource | None] = dict.fromkeys(logs)
        self.owners: dict[TopicPartition, SimulatedSource | None] = dict.fromkeys(logs)
        self._scheduler = scheduler
        self._rng = rng

    @property
    def is_up(self) -> bool:
        """Whether the broker answers."""
        return self._scheduler.now >= self.down_until

    def join(self, member: "SimulatedSource") -> None:
        """One more member."""
        member.expelled = False
        self.members.append(member)
        self.rebalance()

    def leave(self, member: "SimulatedSource") -> None:
        """A member is gone, and its partitions are free."""
        if member in self.members:
            self.members.remove(member)
        for where, owner in self.owners.items():
            if owner is member:
                self.owners[where] = None
        self.rebalance()

    def rebalance(self) -> None:
        """Give partitions to members, in an order of its own."""
        order = self._rng.sample(self.members, len(self.members))
        for number, where in enumerate(self._rng.sample(list(self.logs), len(self.logs))):
            self.targets[where] = order[number % len(order)] if order else None

    def look(self) -> None:
        """Expel members that are not heard of, or do not poll."""
        now = self._scheduler.now
        for member in list(self.members):
            process = member.process
            silent = process.dead or process.frozen_until > now
            member.heard_at = member.heard_at if silent else now
            if now - member.heard_at > SESSION_TIMEOUT_S or now - member.polled_at > MAX_POLL_INTERVAL_S:
                self.reached["member expelled"] += 1
                member.expelled = True
                self.leave(member)


class SimulatedSource:
    """One member."""

    def __init__(self, scheduler: Scheduler, group: Group, server: Server, process: Process, rng: Random) -> None:
        self.process = process
        self.expelled = False
        self.heard_at = self.polled_at = scheduler.now
        self._scheduler = scheduler
        self._group = group
        self._server = server
        self._rng = rng
        self._given: set[TopicPartition] = set()
        self._next: dict[TopicPartition, int] = {}
        self._committed: dict[TopicPartition, int] = {}
        self._topic_ids: dict[TopicPartition, str | None] = {}
        self._ended: dict[TopicPartition, float] = {}
        self._offer_at = 0.0
        self._failure: Exception | None = None
        self._paused = False

    def start(
        self,
        on_assigned: Callable[[Sequence[LogBounds]], Sequence[Claim]],
        on_revoked: Callable[[Sequence[TopicPartition], bool], None],
    ) -> None:
        """Join the group."""
        self._on_assigned, self._on_revoked = on_assigned, on_revoked
        self.heard_at = self.polled_at = self._scheduler.now
        self._group.join(self)
        self._offer_at = self._scheduler.now + OFFER_AGAIN_S

    def poll(self, max_messages: int, timeout_s: float) -> Sequence[Message]:
        """Return what has arrived; the callbacks run first."""
        self._raise_failure()
        self.polled_at = self._scheduler.now
        self._care_for_waiting()
        if self._paused or not self._group.is_up or not self._available():
            self._scheduler.wait(self._group.arrived, max(timeout_s, SHORTEST_POLL_S))
        else:
            self._scheduler.sleep(self._rng.uniform(0, 0.002))
        if self._group.is_up and self._rng.random() < 0.8:
            self._hear_from_group()
        self._find_ended()
        self._raise_failure()
        return [] if self._paused or not self._group.is_up else self._take(max_messages)

    def confirm(self, partitions: Collection[TopicPartition]) -> Callable[[], None]:
        """The broker tells ids as they are at some moment between the question and the use of its answer."""
        expected = {where: self._topic_ids[where] for where in partitions}
        asked = self._topic_ids_now(partitions) if self._group.is_up and self._rng.random() < 0.5 else None

        def confirmed() -> None:
            self._scheduler.sleep(self._rng.uniform(0, 0.02))
            if asked is None and not self._group.is_up:
                if all(where in self._next for where in partitions):
                    self._group.reached["topic not confirmed"] += 1
                    message = "no answer"
                    raise TransientError(message)
                message = "given up"
                raise FencedError(message)
            if (self._topic_ids_now(partitions) if asked is None else asked) != expected:
                self._group.reached["topic is another one"] += 1
                message = "created anew"
                raise FencedError(message)

        return confirmed

    def pause(self) -> None:
        """Let `poll` return nothing."""
        self._group.reached["reading paused"] += 1
        self._paused = True

    def resume(self) -> None:
        """End `pause`."""
        self._paused = False

    def mirror(self, offsets: Mapping[TopicPartition, int]) -> None:
        """What is told to Kafka has been committed."""
        for where, offset in offsets.items():
            assert offset <= self._server.furthest[where], f"{where}: {offset} was told, and was never committed"
            if where in self._next:
                self._committed[where] = offset

    def state(self) -> KafkaState:
        """What librdkafka would tell about itself."""
        ends = {where: LogEnd(self._group.logs[where].bounds.high) for where in self._next}
        unclaimed = frozenset(self._given - self._next.keys())
        return KafkaState(connected=self._group.is_up, joined=not self.expelled, ends=ends, unclaimed=unclaimed)

    def rejoin(self) -> None:
        """Give up all partitions; the group may not even notice."""
        self._group.reached["joined anew"] += 1
        self._next.clear()
        self._committed.clear()
        self._ended.clear()
        self._failure = None
        if self._rng.random() < 0.5:
            self._given.clear()
            self._group.leave(self)
            self._group.join(self)
        self._offer_at = self._scheduler.now + OFFER_AFTER_REJOINING_S

    def close(self) -> None:
        """Leave the group."""
        if not self.process.dead:
            self._group.leave(self)

    def _hear_from_group(self) -> None:
        if self.expelled:
            self._leave(sorted(self._given), lost=True)
            self._group.join(self)
            return
        targets, owners = self._group.targets, self._group.owners
        if gone := sorted(where for where in self._given if targets[where] is not self):
            self._leave(gone, lost=False)
            for where in gone:
                if owners[where] is self:
                    owners[where] = None
        # Nobody is expelled by its own callback, but by the time that it takes.
        if self in self._group.members and (new := [w for w, t in targets.items() if t is self and owners[w] is None]):
            for where in new:
                owners[where] = self
            self._given.update(new)
            self._claim(new)

    def _claim(self, partitions: Sequence[TopicPartition]) -> None:
        if self._failure is not None:
            return
        # The broker may not tell about every partition.
        logs = self._group.logs
        known = [logs[where].bounds for where in partitions if self._rng.random() < 0.95]
        bounds = [replace(bound, partitions=len(logs)) for bound in known]
        try:
            claims = self._on_assigned(bounds) if bounds else ()
        except Exception as failure:  # noqa: BLE001 - kept, and raised by poll
            self._group.reached["claim failed"] += 1
            self._failure = failure
            return
        topic_ids = {bound.topic_partition: bound.topic_id for bound in bounds}
        for claim in claims:
            self._next[claim.topic_partition] = self._committed[claim.topic_partition] = claim.next_offset
            self._topic_ids[claim.topic_partition] = topic_ids[claim.topic_partition]

    def _leave(self, partitions: Sequence[TopicPartition], *, lost: bool) -> None:
        ours = [where for where in partitions if where in self._next]
        self._given.difference_update(partitions)
        if ours and self._failure is None:
            self._group.reached["partitions lost" if lost else "partitions revoked"] += 1
            try:
                self._on_revoked(ours, lost)
            except Exception as failure:  # noqa: BLE001 - kept, and raised by poll
                self._failure = failure
        for where in ours:
            self._next.pop(where, None)
            self._ended.pop(where, None)

    def _find_ended(self) -> None:
        """Notice partitions whose log does not go on where they are read."""
        for where, next_offset in self._next.items():
            log = self._group.logs[where]
            if not log.low <= next_offset <= log.high:
                self._ended.setdefault(where, self._scheduler.now + OFFER_AGAIN_S)

    def _care_for_waiting(self) -> None:
        now = self._scheduler.now
        for where, give_up_at in list(self._ended.items()):
            if self._committed.get(where, 0) >= self._next.get(where, 0) or now >= give_up_at:
                self._leave([where], lost=False)
                self._ended.pop(where, None)
                self._given.add(where)
                self._offer_at = now
        if now >= self._offer_at and self._group.is_up:
            self._offer_at = now + OFFER_AGAIN_S
            if waiting := sorted(self._given - self._next.keys()):
                self._claim(waiting)
        self._raise_failure()

    def _topic_ids_now(self, partitions: Iterable[TopicPartition]) -> Mapping[TopicPartition, str | None]:
        return {where: self._group.logs[where].topic_id for where in partitions}

    def _available(self) -> bool:
        logs = self._group.logs
        return any(logs[where].high > offset for where, offset in self._next.items() if where not in self._ended)

    def _take(self, most: int) -> list[Message]:
        found: list[Message] = []
        for where in self._rng.sample(sorted(self._next), len(self._next)):
            if where in self._ended:
                continue
            records = self._group.logs[where].read(self._next[where], self._rng.randint(0, most - len(found)))
            found += [record.message(where) for record in records]
            if records:
                self._next[where] = records[-1].offset + 1
        return found

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
