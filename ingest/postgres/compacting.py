"""Pending deltas in PostgreSQL: which registers have some, folding a slice of them, and making room afterwards."""

from dataclasses import dataclass
from typing import cast

from ingest.domain.compacting import FIRST_KEY, Merged, PendingDeltas, Slice
from ingest.errors import TransientError
from ingest.postgres.connections import Database, KeptConnection, translated_errors


@dataclass(slots=True)
class DeltaStore(KeptConnection):
    """Folds slices over one connection of its own, each in a transaction of its own."""

    def registers(self) -> list[str]:
        """Return the names of registers that have a table of pending deltas."""
        with self.database.connect() as connection:
            rows = connection.execute(
                self.database.compose("list_delta_registers"), {"schema": self.database.schema}
            ).fetchall()
        return [cast("str", name) for (name,) in rows]

    def merge(self, wanted: Slice) -> Merged:
        """Fold a slice, all of it or nothing."""
        parameters = {
            "register": wanted.register,
            "min_age_ms": wanted.min_age_ms,
            "most": wanted.most,
            "first_key": wanted.first_key,
        }
        try:
            with translated_errors():
                connection = self._connected()
                with connection.transaction():
                    connection.execute(self.database.compose("limit_waiting"), self.database.limits)
                    row = connection.execute(self.database.compose("merge_slice"), parameters).fetchone()
        except TransientError:
            # Whatever state the connection is in, a new one is in none.
            self.close()
            raise
        return Merged(*cast("tuple[int, int | None, str | None]", row))

    def vacuum(self, register: str) -> None:
        """Let the space of folded deltas be used again; where this role may not, autovacuum does it later."""
        table = self.database.table(f"{register}_balance_cache_delta")
        with translated_errors():
            self._connected().execute(self.database.compose("vacuum_deltas", deltas=table))

    def pending(self) -> list[PendingDeltas]:
        """Return what waits to be folded."""
        return read_pending(self.database)


def drain(database: Database, register: str, most: int = 10_000) -> int:
    """Fold what is pending in a register, a slice in each transaction, from the first cell to the last."""
    store = DeltaStore(database)
    folded, key = 0, FIRST_KEY
    try:
        while (merged := store.merge(Slice(register, most, first_key=key))).next_key is not None:
            folded, key = folded + merged.deltas, merged.next_key
    finally:
        store.close()
    return folded


def read_pending(database: Database) -> list[PendingDeltas]:
    """Return how many deltas of each register are pending, and since when."""
    with database.connect() as connection:
        rows = connection.execute(database.compose("pending_deltas")).fetchall()
    return [PendingDeltas(*cast("tuple[str, bool, int, float | None]", row)) for row in rows]
