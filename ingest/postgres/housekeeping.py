"""What the compactor keeps in order besides deltas: partitions ahead, old batches and dead letters, the relay.

Each call does a bounded part in a short transaction and returns how much; 0 says that nothing is left for now.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from ingest.domain.compacting import Letter, Record, record_of
from ingest.errors import DataError
from ingest.postgres.connections import Connection, Database, translated_errors
from ingest.postgres.registers import read_registry

ROWS: Final = 10_000
"""Rows of batches or dead letters that one transaction removes."""

PAGE: Final = 500
"""Dead letters that one transaction relays."""


@dataclass(frozen=True, slots=True)
class Housekeeper:
    """Tidies over connections of its own."""

    database: Database

    def create_partitions(self, days: int) -> int:
        """Make the partitions that all registers need in the coming days; a short transaction for each register."""
        created = 0
        refused: DataError | None = None
        for register in sorted(read_registry(self.database).registers):
            try:
                created += self._count("create_partitions_ahead", register=register, days=days)
            except DataError as error:
                refused = error
        if refused is not None:
            # The others have theirs.
            raise refused
        return created

    def roll_up_batches(self, days: int) -> int:
        """Add up batches that are older; no count and no offset is lost."""
        return self._count("roll_up_batches", days=days, most=ROWS)

    def forget_dead_letters(self, days: int, *, relayed_only: bool) -> int:
        """Remove dead letters that were settled before; those that wait stay."""
        return self._count("forget_dead_letters", days=days, relayed_only=relayed_only, most=ROWS)

    def relay(self, deliver: Callable[[Sequence[Record]], None]) -> int:
        """Deliver the oldest dead letters that are in no topic yet; what fails on the way is delivered again."""
        with self.database.connect() as connection, translated_errors(), connection.transaction():
            connection.execute(self.database.compose("limit_waiting"), self.database.limits)
            letters = self._lock_unrelayed(connection)
            if letters:
                deliver([record_of(letter) for letter in letters])
                ids = [letter.id for letter in letters]
                connection.execute(self.database.compose("mark_relayed"), {"ids": ids})
        return len(letters)

    def _lock_unrelayed(self, connection: Connection) -> list[Letter]:
        rows = connection.execute(self.database.compose("lock_unrelayed"), {"most": PAGE}).fetchall()
        letters = []
        for *columns, names, values in rows:
            headers = zip(cast("list[str]", names), cast("list[bytes | None]", values), strict=True)
            # The statement's columns are the fields, in their order.
            fields: list[Any] = [*columns, tuple(headers)]
            letters.append(Letter(*fields))
        return letters

    def _count(self, statement: str, **parameters: object) -> int:
        with self.database.connect() as connection, translated_errors(), connection.transaction():
            connection.execute(self.database.compose("limit_waiting"), self.database.limits)
            row = connection.execute(self.database.compose(statement), parameters).fetchone()
        return cast("int", row[0]) if row else 0
