"""Positions: the truth about what has been applied, and the epoch that keeps a former owner from applying more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import structlog

from ingest.domain.applying import Claims, Standing, Stop
from ingest.domain.batches import MOST_ATTEMPTS, Batch
from ingest.domain.positions import Claim, LogBounds, TopicPartition, check_position
from ingest.domain.streaks import Reasons, Streaks, describe_streak
from ingest.errors import PositionError, TransientError
from ingest.postgres.connections import Connection, Database
from ingest.postgres.hanging import end_hung_sessions

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Stored:
    position_id: int
    topic_id: str | None
    next_offset: int
    in_a_row: int


@dataclass(frozen=True, slots=True)
class Claiming:
    """Takes partitions for one worker of a group; `most_in_a_row` dead letters stop a partition, 0 is no limit."""

    database: Database
    consumer_group: str
    owner: str
    most_in_a_row: int = 0

    def claim(self, connection: Connection, bounds: Sequence[LogBounds]) -> Claims:
        """Take these partitions: raise their epochs and return where to read on.

        Waits for a batch of the former owner that is being committed, but not for a process that hangs. A partition
        whose log and position contradict each other is left as it is, and so is one stopped for its dead letters.
        """
        taken: list[Claim] = []
        stopped: list[tuple[TopicPartition, PositionError]] = []
        with connection.transaction():
            connection.execute(self.database.compose("limit_waiting"), self.database.limits)
            end_hung_sessions(connection, self.database)
            stored = self._lock(connection, bounds)
            for bound in sorted(bounds, key=lambda b: b.topic_partition):
                try:
                    taken.append(self._take(connection, bound, stored.get(bound.topic_partition)))
                except PositionError as error:
                    stopped.append((bound.topic_partition, error))
        return Claims(tuple(taken), tuple(stopped))

    def _take(self, connection: Connection, bound: LogBounds, stored: _Stored | None) -> Claim:
        where = bound.topic_partition
        position, topic_id = (stored.next_offset, stored.topic_id) if stored else (None, None)
        next_offset = check_position(position, topic_id, bound)
        if stored and self.most_in_a_row and stored.in_a_row >= self.most_in_a_row:
            reasons = prevailing_reason(
                connection, self.database, stored.position_id, stored.next_offset, stored.in_a_row
            )
            raise describe_streak(where, stored.next_offset, stored.in_a_row, self.most_in_a_row, reasons)
        parameters = {
            "consumer_group": self.consumer_group,
            "topic": where.topic,
            "partition": where.partition,
            "topic_id": bound.topic_id,
            "next_offset": next_offset,
            "owner": self.owner,
            "log_end": bound.high,
            "most_attempts": MOST_ATTEMPTS,
            "is_known": stored is not None,
        }
        row = connection.execute(self.database.compose("claim_position"), parameters).fetchone()
        if row is None:
            message = f"{where} was claimed by another worker at the same time, which nobody had done before"
            raise TransientError(message)
        claim = Claim(where, *cast("tuple[int, int, int, int]", row))
        if claim.attempts > 1:
            _log.info("claimed before with little to show: smaller batches", at=str(where), attempts=claim.attempts)
        return claim

    def _lock(self, connection: Connection, bounds: Sequence[LogBounds]) -> dict[TopicPartition, _Stored]:
        parameters = {
            "consumer_group": self.consumer_group,
            "topics": [bound.topic_partition.topic for bound in bounds],
            "partitions": [bound.topic_partition.partition for bound in bounds],
        }
        rows = connection.execute(self.database.compose("lock_positions"), parameters).fetchall()
        return {
            TopicPartition(topic, partition): _Stored(position_id, topic_id, next_offset, in_a_row)
            for position_id, topic, partition, topic_id, next_offset, in_a_row in cast(
                "list[tuple[int, str, int, str | None, int, int]]", rows
            )
        }


def standing_of(connection: Connection, database: Database, batch: Batch) -> Standing:
    """Tell whether a batch was committed, from the positions it would have left behind."""
    found = _read(connection, database, [span.claim.position_id for span in batch.spans])
    before = {span.claim.position_id: (span.claim.next_offset, span.claim.epoch) for span in batch.spans}
    after = {span.claim.position_id: (span.next_offset, span.claim.epoch) for span in batch.spans}
    if found == after:
        return Standing.COMMITTED
    return Standing.NOT_COMMITTED if found == before else Standing.FENCED


def are_held(database: Database, claims: Sequence[Claim]) -> bool:
    """Tell whether all positions are where these claims have them, under their epochs."""
    with database.connect() as connection, connection.transaction():
        connection.execute(database.compose("limit_waiting"), database.limits)
        return _read(connection, database, [claim.position_id for claim in claims]) == {
            claim.position_id: (claim.next_offset, claim.epoch) for claim in claims
        }


def _read(connection: Connection, database: Database, position_ids: Sequence[int]) -> dict[int, tuple[object, object]]:
    rows = connection.execute(database.compose("read_positions"), {"position_ids": list(position_ids)}).fetchall()
    return {cast("int", position_id): (next_offset, epoch) for position_id, next_offset, epoch in rows}


def write_streaks(
    connection: Connection,
    database: Database,
    batch: Batch,
    before: Mapping[TopicPartition, int],
    streaks: Streaks,
    most: int,
) -> tuple[Stop, ...]:
    """Write how many dead letters in a row the batch ends with; returns the partitions that stop there."""
    spans = {span.claim.topic_partition: span for span in batch.spans}
    changed = {where: length for where, length in streaks.lengths.items() if length != before[where]}
    if changed:
        parameters = {
            "position_ids": [spans[where].claim.position_id for where in changed],
            "lengths": list(changed.values()),
        }
        connection.execute(database.compose("count_in_a_row"), parameters)
    stops = []
    for where in streaks.stopped(most):
        position_id, following, length = (
            spans[where].claim.position_id,
            spans[where].next_offset,
            streaks.lengths[where],
        )
        reasons = prevailing_reason(connection, database, position_id, following, length)
        stops.append(Stop(where, following, describe_streak(where, following, length, most, reasons)))
    return tuple(stops)


def prevailing_reason(
    connection: Connection, database: Database, position_id: int, next_offset: int, length: int
) -> Reasons:
    """Return the reason that most of the last dead letters before an offset have."""
    parameters = {"position_id": position_id, "next_offset": next_offset, "most": length}
    row = connection.execute(database.compose("prevailing_reason"), parameters).fetchone()
    return cast("tuple[str, int] | None", row)
