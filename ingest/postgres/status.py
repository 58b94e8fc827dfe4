"""What the database knows about the stream: positions, and what their batches did."""

from typing import Any, cast

from ingest.domain.status import StoredPosition
from ingest.postgres.connections import Database


def read_positions(database: Database, consumer_group: str) -> list[StoredPosition]:
    """Return the positions of a group, by topic and partition."""
    with database.connect() as connection:
        rows = connection.execute(database.compose("list_positions"), {"consumer_group": consumer_group}).fetchall()
    # The statement's columns are the fields, in their order.
    return [StoredPosition(*cast("Any", row)) for row in rows]
