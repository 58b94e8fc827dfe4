"""Watches who waits for cells, and turns high-write on for registers that were declared to decide by themselves."""

from dataclasses import dataclass, field
from typing import Final, cast

import structlog

from ingest.domain.contention import Contention
from ingest.errors import TransientError
from ingest.postgres.connections import Database, translated_errors

# All batches queue behind the switch while it waits for those that run, so it does not wait for long.
_SWITCH_TIMEOUT_MS: Final = 1_000

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class ContentionWatch:
    """Takes a sample with each step; several watches come to the same."""

    database: Database
    threshold: float
    contention: Contention = field(default_factory=Contention)

    def step(self) -> int:
        """Take a sample, and switch what waits too much; returns how many registers were switched."""
        self.contention = self.contention.after(self._sample())
        return sum(self._switch(register) for register in self.contention.over(self.threshold))

    def _sample(self) -> dict[str, int]:
        with self.database.connect() as connection, translated_errors():
            rows = connection.execute(self.database.compose("waiting_for_cells")).fetchall()
        return {cast("str", name): cast("int", sessions) for name, sessions in rows}

    def _switch(self, register: str) -> bool:
        """Try it once; where somebody is in the way, samples have to add up again before the next try."""
        waiting = round(self.contention.means[register], 1)
        limits = {**self.database.limits, "lock_timeout_ms": _SWITCH_TIMEOUT_MS}
        try:
            with self.database.connect() as connection, translated_errors(), connection.transaction():
                connection.execute(self.database.compose("limit_waiting"), limits)
                row = connection.execute(
                    self.database.compose("switch_to_high_write"), {"register": register}
                ).fetchone()
        except TransientError as error:
            self.contention = self.contention.without(register)
            _log.warning("register not switched to high-write yet", register=register, error=str(error))
            return False
        switched = bool(row and row[0])
        if switched:
            _log.warning("register switched to high-write", register=register, waiting_sessions=waiting)
        return switched
