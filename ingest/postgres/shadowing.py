"""Applies batches to the shadow of a register: as the worker does, in one transaction with the rebuild's own positions.

What the rows say of an event's place is what the live register's rows say: movements, recorders and refusals name the
live positions, so that nothing has to be written again when the tables are exchanged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ingest.domain.applying import Registry
from ingest.domain.batches import Batch
from ingest.domain.messages import Refusal
from ingest.domain.registers import Register
from ingest.postgres.apply import BatchStore
from ingest.postgres.connections import Connection
from ingest.postgres.writing import Writer, describe_refusal


@dataclass(frozen=True, slots=True)
class ShadowWriter(Writer):
    """A writer that keeps refusals apart, until they are the register's."""

    register: str = ""

    def write_dead_letters(self, refusals: Sequence[Refusal], batch_id: int) -> None:
        """Keep refused events, byte for byte, where nobody takes them for news."""
        statement = self.database.compose("insert_rebuild_refusal")
        rows = [
            {
                **describe_refusal(refusal),
                **self.describe_message(refusal.message),
                "batch_id": batch_id,
                "rebuilt_register": self.register,
            }
            for refusal in refusals
        ]
        if rows:
            with self.connection.cursor() as cursor:
                cursor.executemany(statement, rows)


@dataclass(slots=True)
class ShadowStore(BatchStore):
    """A batch store whose only register is the shadow of `register`."""

    register: str = ""
    shadow: Register | None = None
    live_ids: Mapping[tuple[str, int], int] = field(default_factory=dict)

    def _writer(self, connection: Connection, batch: Batch, registry: Registry) -> Writer:  # noqa: ARG002
        registers = {} if self.shadow is None else {self.shadow.name: self.shadow}
        return ShadowWriter(connection, self.database, registers, self.live_ids, self.register)
