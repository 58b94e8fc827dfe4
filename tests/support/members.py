"""Members of a consumer group that remember everything: what they were asked, and every message they were given.

    positions = Positions()                                 # shared by members, as PostgreSQL is by workers
    member = members(bootstrap_servers, [topic], positions, protocol="classic")
    member.read_until(lambda: len(member.messages) == 30)
    member.commit()

A member commits nothing by itself: what it read and did not commit is read again by whoever claims the partition.
"""

import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import pytest

from ingest.domain.messages import Message
from ingest.domain.positions import Claim, LogBounds, TopicPartition, check_position
from ingest.errors import PositionError
from ingest.kafka.bounds import BoundsReader
from ingest.kafka.consumer import KafkaSource
from ingest.kafka.options import admin_config, consumer_config

Protocol = Literal["classic", "consumer"]

READ_TIMEOUT_S = 60
BOUNDS_TIMEOUT_S = 5
POLL_TIMEOUT_S = 0.1
MOST_MESSAGES = 500


@dataclass
class Positions:
    """Where each partition is read on, and of which topic: the group's common truth."""

    next_offsets: dict[TopicPartition, int] = field(default_factory=dict)
    topic_ids: dict[TopicPartition, str | None] = field(default_factory=dict)
    epochs: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def claim(self, bounds: LogBounds) -> Claim:
        tp = bounds.topic_partition
        start = check_position(self.next_offsets.get(tp), self.topic_ids.get(tp), bounds)
        self.next_offsets[tp] = start
        self.topic_ids[tp] = bounds.topic_id
        return Claim(tp, 0, start, next(self.epochs))


class Member:
    """A source with handlers that claim what they can and note everything down."""

    def __init__(self, source: KafkaSource, positions: Positions) -> None:
        self.source = source
        self.positions = positions
        self.messages: list[Message] = []
        self.offered: list[LogBounds] = []
        self.claims: dict[TopicPartition, Claim] = {}
        self.stopped: dict[TopicPartition, PositionError] = {}
        self.left: list[tuple[TopicPartition, bool]] = []
        self.refuse: set[TopicPartition] = set()
        self.fail_on_assigned: Exception | None = None
        self.fail_on_revoked: Exception | None = None
        self.commit_on_revoked = False
        self._uncommitted: dict[TopicPartition, int] = {}

    def start(self) -> "Member":
        self.source.start(self._on_assigned, self._on_revoked)
        return self

    def poll(self, timeout_s: float = POLL_TIMEOUT_S, most: int = MOST_MESSAGES) -> list[Message]:
        messages = self.source.poll(most, timeout_s)
        for message in messages:
            tp = TopicPartition(message.topic, message.partition)
            assert tp in self.claims, f"{tp} was given up, and offset {message.offset} came"
            self._uncommitted[tp] = message.offset + 1
        self.messages += messages
        return messages

    def read_until(self, condition: Callable[[], object], timeout_s: float = READ_TIMEOUT_S) -> None:
        read_all_until([self], condition, timeout_s)

    def commit(self) -> None:
        """Move the positions, as a worker's transaction does, once it is confirmed, and tell Kafka."""
        done = dict(self._uncommitted)
        self.source.confirm(done)()
        self._uncommitted.clear()
        self.positions.next_offsets |= done
        self.source.mirror(done)

    def drop(self) -> None:
        """Forget what was read, as a worker does that was fenced."""
        self.claims.clear()
        self._uncommitted.clear()

    def offsets(self, partition: int) -> list[int]:
        return [message.offset for message in self.messages if message.partition == partition]

    def _on_assigned(self, bounds: Sequence[LogBounds]) -> Sequence[Claim]:
        self.offered += bounds
        if self.fail_on_assigned is not None:
            raise self.fail_on_assigned
        claims = []
        for one in bounds:
            if one.topic_partition in self.refuse:
                continue
            try:
                claims.append(self.positions.claim(one))
            except PositionError as error:
                self.stopped[one.topic_partition] = error
        self.claims |= {claim.topic_partition: claim for claim in claims}
        return claims

    def _on_revoked(self, partitions: Sequence[TopicPartition], lost: bool) -> None:  # noqa: FBT001 - a callback
        self.left += [(tp, lost) for tp in partitions]
        if self.fail_on_revoked is not None:
            raise self.fail_on_revoked
        if self.commit_on_revoked and not lost:
            self.commit()
        for tp in partitions:
            del self.claims[tp]
            self._uncommitted.pop(tp, None)


def read_all_until(
    members: Sequence[Member], condition: Callable[[], object], timeout_s: float = READ_TIMEOUT_S
) -> None:
    """Poll members in turn until something is the case."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        seen = [(len(member.messages), sorted(member.claims), member.left) for member in members]
        assert time.monotonic() < deadline, f"not within {timeout_s} s; messages, claims, left: {seen}"
        for member in members:
            member.poll()


@pytest.fixture
def members() -> Iterator[Callable[..., Member]]:
    """Makes members, and closes them: `members(servers, topics, positions, protocol=..., options={...}, group=...)`."""
    made: list[Member] = []

    def make(
        bootstrap_servers: str,
        topics: Sequence[str],
        positions: Positions | None = None,
        *,
        group: str | None = None,
        protocol: Protocol = "classic",
        options: Mapping[str, str] | None = None,
        session_timeout_ms: int = 6_000,
        max_poll_interval_ms: int = 60_000,
        clock: Callable[[], float] = time.monotonic,
    ) -> Member:
        extra = {"topic.metadata.refresh.interval.ms": "1000", **(options or {})}
        group = group or f"group-{secrets.token_hex(4)}"
        config = consumer_config(bootstrap_servers, group, protocol, session_timeout_ms, max_poll_interval_ms, extra)
        bounds = BoundsReader(admin_config(bootstrap_servers, extra), BOUNDS_TIMEOUT_S)
        made.append(Member(KafkaSource(config, topics, bounds, clock), positions or Positions()))
        return made[-1]

    yield make
    for member in made:
        member.source.close()
