"""What the status page and /ready ask PostgreSQL, over one connection that is kept."""

from dataclasses import dataclass
from typing import Any, cast

from ingest.domain.compacting import PendingDeltas
from ingest.domain.overview import LetterSummary, Overview
from ingest.errors import TransientError
from ingest.postgres.connections import KeptConnection, translated_errors
from ingest.postgres.registers import read_registry

MOST_LETTERS = 20


@dataclass(slots=True)
class Overlook(KeptConnection):
    """Answers whether the database takes writes, and what is in it; one caller at a time."""

    def ping(self) -> None:
        """Return when the database takes writes; raise otherwise."""
        try:
            with translated_errors():
                connection = self._connected()
                with connection.transaction():
                    connection.execute(self.database.compose("limit_waiting"), self.database.limits)
                    row = connection.execute(self.database.compose("takes_writes")).fetchone()
        except Exception:
            # Whatever state it is in, a new one is in none.
            self.close()
            raise
        if row is None or not row[0]:
            self.close()
            message = "the server takes no writes: it is a standby now"
            raise TransientError(message)

    def overview(self) -> Overview:
        """Read registers, pending deltas, what dead letters wait, and how VACUUM gets on."""
        declared = read_registry(self.database).registers
        with translated_errors():
            connection = self._connected()
            with connection.transaction():
                connection.execute(self.database.compose("limit_waiting"), self.database.limits)
                pending = connection.execute(self.database.compose("pending_deltas")).fetchall()
                waiting = connection.execute(self.database.compose("count_waiting_dead_letters")).fetchall()
                letters = connection.execute(
                    self.database.compose("newest_waiting_dead_letters"), {"most": MOST_LETTERS}
                ).fetchall()
                vacuum = connection.execute(self.database.compose("vacuum_standing"), {"schema": self.database.schema})
                oldest_snapshot, dead_rows = cast("tuple[int, int]", vacuum.fetchone())
        return Overview(
            registers=tuple(declared.values()),
            pending=tuple(PendingDeltas(*row) for row in cast("list[tuple[str, bool, int, float | None]]", pending)),
            waiting=dict(cast("list[tuple[str, int]]", waiting)),
            letters=tuple(LetterSummary(*cast("Any", row)) for row in letters),
            oldest_snapshot=oldest_snapshot,
            dead_rows=dead_rows,
        )
