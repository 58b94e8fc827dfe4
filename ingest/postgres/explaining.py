"""Answers for those who look for one event or one document: whether it has been applied, and what it did."""

import json
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from functools import partial
from typing import Any, Final, cast

from psycopg.types.json import set_json_loads

from ingest.errors import DataError, RegisterError, SettingsError
from ingest.postgres.connections import Database

NO_RECORDER: Final = "TS011"


def wait_for_event(
    database: Database, topic: str, partition: int, offset: int, timeout: timedelta, consumer_group: str | None
) -> bool:
    """Return true as soon as the event has been applied or refused, and false when the time is over."""
    parameters = {
        "event_topic": topic,
        "event_partition": partition,
        "event_offset": offset,
        "timeout": timeout,
        "consumer_group": consumer_group,
    }
    try:
        with database.connect() as connection:
            row = connection.execute(database.compose("wait_for_event"), parameters).fetchone()
    except DataError as error:
        raise SettingsError(error.detail) from error
    return bool(row and row[0])


def explain(database: Database, registers: Sequence[str], recorder: str, most: int) -> list[dict[str, Any]]:
    """Return what `register_explain()` knows of a document, in each of these registers that knows anything."""
    found = []
    for register in registers:
        try:
            explained = _explain(database, register, recorder, most)
        except DataError as error:
            # Registers differ in the type of their recorders: what one cannot read may be another's.
            if error.sqlstate == NO_RECORDER and len(registers) > 1:
                continue
            raise RegisterError(error.detail) from error
        if explained["events_applied"] or explained["movements_count"] or explained["dead_letters"]:
            found.append(explained)
    return found


def _explain(database: Database, register: str, recorder: str, most: int) -> dict[str, Any]:
    parameters = {"register": register, "recorder": recorder, "most": most}
    with database.connect() as connection, connection.cursor() as cursor:
        # As written: a quantity must not come out as a float.
        set_json_loads(partial(json.loads, parse_float=Decimal), cursor)
        row = cursor.execute(database.compose("explain_recorder"), parameters).fetchone()
    return cast("dict[str, Any]", row[0] if row else {})
