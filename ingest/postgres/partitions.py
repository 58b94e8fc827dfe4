"""Makes sure, before a batch begins, that the partitions it needs are there.

Creating one is a short transaction of its own, so no batch ever waits with locks in hand for another's partition.
Which partition holds an instant is PostgreSQL's to say: its time zones decide where a period is stored.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import psycopg

from ingest.domain.batches import Decoded
from ingest.domain.messages import Event
from ingest.errors import RegistryChangedError
from ingest.postgres.connections import Connection, Database

_LAST_INSTANT: Final = timedelta(hours=1) - timedelta(microseconds=1)
_ENDLESS: Final = 2**63
_NO_SUCH_REGISTER: Final = "TS001"


@dataclass(slots=True)
class Partitions:
    """Remembers which partitions there are, and which hours they hold; asks the database about others."""

    _known_hours: dict[str, set[int]] = field(default_factory=dict)
    _bounds: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def ensure(self, connection: Connection, database: Database, items: Iterable[Decoded]) -> None:
        """Create the partitions that the movements of these events need and that are not there."""
        for name, hours in sorted(_hours(items).items()):
            new = hours - self._known_hours.setdefault(name, set())
            if new:
                if name not in self._bounds:
                    self._bounds[name] = _read_bounds(connection, database, name)
                missing = [hour for hour in new if not _is_within(hour, self._bounds[name])]
                if missing:
                    _create(connection, database, name, missing)
                    del self._bounds[name]
                self._known_hours[name] |= new

    def forget(self) -> None:
        """Ask again: somebody may have removed a partition."""
        self._known_hours.clear()
        self._bounds.clear()


def _read_bounds(connection: Connection, database: Database, register: str) -> list[tuple[int, int]]:
    with connection.transaction():
        connection.execute(database.compose("limit_waiting"), database.limits)
        rows = connection.execute(database.compose("partition_bounds"), {"register": register}).fetchall()
    return cast("list[tuple[int, int]]", rows)


def _is_within(hour: int, bounds: Sequence[tuple[int, int]]) -> bool:
    """Whether one partition holds the whole hour: it tells without the database's time zones."""
    place = bisect_right(bounds, (hour * 3600, _ENDLESS)) - 1
    return place >= 0 and (hour + 1) * 3600 <= bounds[place][1]


def _create(connection: Connection, database: Database, register: str, hours: Iterable[int]) -> None:
    # Both ends of each hour: where offsets are not whole hours, a day may end in between.
    starts = [datetime.fromtimestamp(hour * 3600, UTC) for hour in sorted(hours)]
    instants = starts + [start + _LAST_INSTANT for start in starts]
    try:
        with connection.transaction():
            connection.execute(database.compose("limit_waiting"), database.limits)
            parameters = {"register": register, "instants": instants}
            created = connection.execute(database.compose("ensure_partitions"), parameters).fetchone()
        if created and created[0]:
            with connection.transaction():
                connection.execute(database.compose("limit_waiting"), database.limits)
                connection.execute(database.compose("announce_partitions"), {"register": register})
    except psycopg.Error as error:
        if error.sqlstate == _NO_SUCH_REGISTER:
            message = f"register {register} was dropped after this batch was decoded"
            raise RegistryChangedError(message) from error
        raise


def _hours(items: Iterable[Decoded]) -> dict[str, set[int]]:
    periods: dict[str, set[datetime]] = {}
    for item in items:
        if isinstance(item, Event) and item.movements.count:
            periods.setdefault(item.register, set()).update(item.movements.periods)
    return {name: {int(period.timestamp() // 3600) for period in found} for name, found in periods.items()}
