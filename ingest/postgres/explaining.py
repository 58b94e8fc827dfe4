"""Answers for those who look for one event or one document: whether it has been applied, and what it did."""

from datetime import timedelta

from ingest.errors import DataError, SettingsError
from ingest.postgres.connections import Database


def wait_for_event(
    database: Database, topic: str, partition: int, offset: int, timeout: timedelta, consumer_group: str | None
) -> bool:
    """Return true as soon as the event has been applied or refused, and false when the time is over."""
    parameters = {
        "topic": topic,
        "partition": partition,
        "offset": offset,
        "timeout": timeout,
        "consumer_group": consumer_group,
    }
    try:
        with database.connect() as connection:
            row = connection.execute(database.compose("wait_for_event"), parameters).fetchone()
    except DataError as error:
        raise SettingsError(error.detail) from error
    return bool(row and row[0])
