"""Positions: the truth about what has been applied, and the epoch that keeps a former owner from applying more."""

from collections.abc import Sequence
from typing import cast

from ingest.domain.applying import Claims, Standing
from ingest.domain.batches import Batch
from ingest.domain.positions import Claim, LogBounds, TopicPartition, check_position
from ingest.errors import PositionError
from ingest.postgres.connections import Connection, Database


def claim_positions(database: Database, consumer_group: str, owner: str, bounds: Sequence[LogBounds]) -> Claims:
    """Take these partitions: raise their epochs and return where to read on.

    Waits for a batch of the former owner that is being committed. A partition whose log and position contradict each
    other is left as it is.
    """
    taken: list[Claim] = []
    stopped: list[tuple[TopicPartition, PositionError]] = []
    with database.connect() as connection, connection.transaction():
        connection.execute(database.compose("limit_waiting"), database.limits)
        stored = _lock(connection, database, consumer_group, bounds)
        for bound in sorted(bounds, key=lambda b: b.topic_partition):
            try:
                position, topic_id = stored.get(bound.topic_partition, (None, None))
                next_offset = check_position(position, topic_id, bound)
            except PositionError as error:
                stopped.append((bound.topic_partition, error))
                continue
            parameters = {
                "consumer_group": consumer_group,
                "topic": bound.topic_partition.topic,
                "partition": bound.topic_partition.partition,
                "topic_id": bound.topic_id,
                "next_offset": next_offset,
                "owner": owner,
            }
            row = connection.execute(database.compose("claim_position"), parameters).fetchone()
            taken.append(Claim(bound.topic_partition, *cast("tuple[int, int, int]", row)))
    return Claims(tuple(taken), tuple(stopped))


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


def _lock(
    connection: Connection, database: Database, consumer_group: str, bounds: Sequence[LogBounds]
) -> dict[TopicPartition, tuple[int, str | None]]:
    parameters = {
        "consumer_group": consumer_group,
        "topics": [bound.topic_partition.topic for bound in bounds],
        "partitions": [bound.topic_partition.partition for bound in bounds],
    }
    rows = connection.execute(database.compose("lock_positions"), parameters).fetchall()
    found = cast("list[tuple[int, str, int, str | None, int]]", rows)
    return {
        TopicPartition(topic, partition): (next_offset, topic_id)
        for _, topic, partition, topic_id, next_offset in found
    }
