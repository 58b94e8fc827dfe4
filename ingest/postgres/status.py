"""What the database knows about the stream: positions, and what their batches did."""

from collections.abc import Iterable, Sequence
from typing import Any, cast

from ingest.domain.positions import TopicPartition
from ingest.domain.status import StoredPosition
from ingest.domain.streaks import describe_streak
from ingest.errors import PositionError
from ingest.postgres.connections import Database
from ingest.postgres.positions import prevailing_reason


def read_positions(database: Database, consumer_group: str) -> list[StoredPosition]:
    """Return the positions of a group, by topic and partition."""
    with database.connect() as connection:
        rows = connection.execute(database.compose("list_positions"), {"consumer_group": consumer_group}).fetchall()
    # The statement's columns are the fields, in their order.
    return [StoredPosition(*cast("Any", row)) for row in rows]


def read_streaks(
    database: Database, positions: Iterable[StoredPosition], most: int
) -> dict[TopicPartition, PositionError]:
    """Say which of these are stopped for so many dead letters in a row, and what about it."""
    enough: Sequence[StoredPosition] = [p for p in positions if most and p.dead_letters_in_a_row >= most]
    if not enough:
        return {}
    found: dict[TopicPartition, PositionError] = {}
    with database.connect() as connection:
        for p in enough:
            where, length = TopicPartition(p.topic, p.partition), p.dead_letters_in_a_row
            reasons = prevailing_reason(connection, database, p.position_id, p.next_offset, length)
            found[where] = describe_streak(where, p.next_offset, length, most, reasons)
    return found
