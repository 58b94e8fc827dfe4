"""What people do to positions: moving one, letting a stopped one go on, and the record of both."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from ingest.domain.moves import Move
from ingest.domain.positions import TopicPartition
from ingest.errors import DataError, PositionError
from ingest.postgres.connections import Connection, Database


@dataclass(frozen=True, slots=True)
class Moved:
    """A position after its move: `skipped` offsets will never be read, `retired` says that a new row took its place."""

    from_offset: int | None
    to_offset: int
    skipped: int
    retired: bool


@dataclass(frozen=True, slots=True)
class RecordedMove:
    """One entry of the record."""

    done_at: datetime
    action: str
    topic: str
    partition: int
    from_offset: int | None
    to_offset: int
    from_topic_id: str | None
    to_topic_id: str | None
    skipped: int
    done_by: str
    client: str
    reason: str


def move_position(database: Database, consumer_group: str, move: Move, reason: str, client: str) -> Moved:
    """Move a position and record it; whoever reads the partition is fenced and reads on from there."""
    bounds = move.bounds
    parameters = {
        **_identify(consumer_group, move.wish.topic_partition, reason, client),
        "next_offset": move.to_offset,
        "topic_id": bounds.topic_id if bounds else None,
        "log_start": bounds.low if bounds else None,
        "log_end": bounds.high if bounds else None,
        "accept_topic": move.wish.accept_new_topic,
        "truncated": move.is_truncated,
    }
    return Moved(*cast("Any", _change(database, "move_position", parameters)))


def resume_position(
    database: Database, consumer_group: str, topic_partition: TopicPartition, reason: str, client: str
) -> int:
    """Count a partition's dead letters from zero again; returns how many there were in a row."""
    (length,) = _change(database, "resume_position", _identify(consumer_group, topic_partition, reason, client))
    return cast("int", length)


def list_moves(database: Database, consumer_group: str, most: int) -> list[RecordedMove]:
    """Return what people did to the positions of a group, the newest first."""
    with database.connect() as connection:
        parameters = {"consumer_group": consumer_group, "most": most}
        rows = connection.execute(database.compose("list_moves"), parameters).fetchall()
    return [RecordedMove(*cast("Any", row)) for row in rows]


def _identify(group: str, topic_partition: TopicPartition, reason: str, client: str) -> dict[str, object]:
    return {
        "consumer_group": group,
        "topic": topic_partition.topic,
        "partition": topic_partition.partition,
        "reason": reason,
        "client": client,
    }


def _change(database: Database, name: str, parameters: dict[str, object]) -> tuple[object, ...]:
    try:
        with database.connect() as connection, connection.transaction():
            connection.execute(database.compose("limit_waiting"), database.limits)
            return _row(connection, database, name, parameters)
    except DataError as error:
        raise PositionError(error.detail) from error


def _row(connection: Connection, database: Database, name: str, parameters: dict[str, object]) -> tuple[object, ...]:
    return cast("tuple[object, ...]", connection.execute(database.compose(name), parameters).fetchone())
