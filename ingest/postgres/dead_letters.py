"""Dead letters: looking at refused events, trying them again, and letting them go. None is ever deleted here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from ingest.domain.applying import Registry
from ingest.domain.batches import Decoded
from ingest.domain.messages import Event, Message, Reason, Refusal
from ingest.domain.plans import plan_batch, refuse
from ingest.errors import DataError, RegisterError, RegistryChangedError
from ingest.postgres.connections import Connection, Database, translated_errors
from ingest.postgres.partitions import Partitions
from ingest.postgres.writing import Writer, describe_refusal

PAGE = 500
"""Dead letters tried in one transaction."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A refused event in a list."""

    id: int
    state: str
    reason: str
    path: str
    detail: str
    register: str | None
    recorder: str | None
    event_id: str | None
    topic: str | None
    partition: int | None
    event_offset: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters are meant; None does not restrict."""

    ids: tuple[int, ...] | None = None
    reason: str | None = None


@dataclass(slots=True)
class Retried:
    """What became of dead letters that were tried again."""

    settled: int = 0
    movements: int = 0
    refused: list[tuple[int, Refusal]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A dead letter with the record it came from."""

    id: int
    position_id: int
    message: Message


def list_dead_letters(
    database: Database, *, state: str | None, reason: str | None, register: str | None, most: int
) -> list[DeadLetter]:
    """Return the newest dead letters, newest first."""
    parameters = {"state": state, "reason": reason, "register": register, "most": most}
    with database.connect() as connection:
        rows = connection.execute(database.compose("list_dead_letters"), parameters).fetchall()
    return [
        DeadLetter(*row)
        for row in cast("list[tuple[int, str, str, str, str, str, str, str, str, int, int, datetime]]", rows)
    ]


def show_dead_letter(database: Database, dead_letter_id: int) -> dict[str, object]:
    """Return everything that is known of one dead letter, its record byte for byte."""
    with database.connect() as connection:
        cursor = connection.execute(database.compose("show_dead_letter"), {"id": dead_letter_id})
        row = cursor.fetchone()
        if row is None:
            message = f"there is no dead letter {dead_letter_id}; `tallystream dead-letters list` shows those there are"
            raise RegisterError(message)
        return dict(zip([column.name for column in cursor.description or ()], row, strict=True))


def count_dead_letters(database: Database) -> list[tuple[str, str, int]]:
    """Return the number of dead letters by state and reason."""
    with database.connect() as connection:
        rows = connection.execute(database.compose("count_dead_letters")).fetchall()
    return cast("list[tuple[str, str, int]]", rows)


def drop_dead_letters(database: Database, ids: Sequence[int], note: str) -> int:
    """Give up waiting dead letters, with the reason; the rows stay. Returns how many."""
    with database.connect() as connection:
        parameters = {"ids": list(ids), "state": "dropped", "note": note}
        return connection.execute(database.compose("settle_dead_letters"), parameters).rowcount


def retry_dead_letters(
    database: Database,
    registry: Registry,
    decode: Callable[[Message], Decoded],
    selection: Selection,
    page: int = PAGE,
) -> Retried:
    """Decode waiting dead letters again and apply them, oldest first, each page in one transaction.

    What is refused again stays, with its present reason. Later events of the same recorder may have been applied
    meanwhile: revisions decide then, and without them a `movement` is added to what is there.
    """
    retried = Retried()
    after = 0
    with database.connect() as connection:
        retry = _Retry(connection, database, registry, decode, retried)
        while True:
            last = retry.page(selection, after, page)
            if last is None:
                return retried
            after = last


@dataclass(frozen=True, slots=True)
class _Retry:
    connection: Connection
    database: Database
    registry: Registry
    decode: Callable[[Message], Decoded]
    retried: Retried

    def page(self, selection: Selection, after: int, most: int) -> int | None:
        """Try a page of dead letters; returns the last one's id, or None when there are no more."""
        waiting: list[_Waiting] = []
        try:
            with translated_errors(), self.connection.transaction():
                waiting = self._lock(selection, after, most)
                if not waiting:
                    return None
                refused, movements = self._apply(waiting)
        except DataError as error:
            if len(waiting) > 1:
                return self._one_by_one(selection, after, len(waiting))
            return self._refuse(waiting[0].id, error)
        self.retried.movements += movements
        self.retried.settled += len(waiting) - len(refused)
        self.retried.refused.extend(refused)
        return waiting[-1].id

    def _one_by_one(self, selection: Selection, after: int, most: int) -> int | None:
        for _ in range(most):
            last = self.page(selection, after, 1)
            if last is None:
                return None
            after = last
        return after

    def _refuse(self, dead_letter_id: int, error: DataError) -> int:
        with translated_errors(), self.connection.transaction():
            for letter in self._lock(Selection((dead_letter_id,)), 0, 1):
                item = self.decode(letter.message)
                if isinstance(item, Event):
                    item = refuse(item, Reason.REFUSED_BY_DATABASE, error.detail, sqlstate=error.sqlstate)
                self._refuse_again(letter.id, item)
                self.retried.refused.append((letter.id, item))
        return dead_letter_id

    def _lock(self, selection: Selection, after: int, most: int) -> list[_Waiting]:
        self.connection.execute(self.database.compose("limit_waiting"), self.database.limits)
        self.connection.execute(self.database.compose("hold_registry"))
        version = self.connection.execute(self.database.compose("read_registry_version")).fetchone()
        if version is None or version[0] != self.registry.version:
            message = "a register was changed meanwhile; run the command again"
            raise RegistryChangedError(message)
        parameters = {
            "ids": None if selection.ids is None else list(selection.ids),
            "reason": selection.reason,
            "after": after,
            "most": most,
        }
        return [
            _waiting(row) for row in self.connection.execute(self.database.compose("lock_dead_letters"), parameters)
        ]

    def _apply(self, waiting: Sequence[_Waiting]) -> tuple[list[tuple[int, Refusal]], int]:
        items = [self.decode(letter.message) for letter in waiting]
        # A short transaction of its own, over a connection of its own.
        with self.database.connect() as other:
            Partitions().ensure(other, self.database, items)
        position_ids = {(letter.message.topic, letter.message.partition): letter.position_id for letter in waiting}
        writer = Writer(self.connection, self.database, self.registry.registers, position_ids)
        states = writer.lock_recorders(items)
        plan = plan_batch(items, states, writer.find_spilled(items, states))
        row = self.connection.execute(self.database.compose("next_batch_id")).fetchone()
        batch_id = cast("int", row[0]) if row else 0
        writer.write_recorders(plan, batch_id)
        # By object, not by offset: two groups may both have refused the same record.
        ids = {id(letter.message): letter.id for letter in waiting}
        refused = [(ids[id(refusal.message)], refusal) for refusal in plan.refusals]
        for dead_letter_id, refusal in refused:
            self._refuse_again(dead_letter_id, refusal)
        still = {dead_letter_id for dead_letter_id, _ in refused}
        settled = {"ids": sorted(set(ids.values()) - still), "state": "retried", "note": f"batch {batch_id}"}
        self.connection.execute(self.database.compose("settle_dead_letters"), settled)
        writer.write_movements(plan, batch_id)
        return refused, sum(plan.movements.values())

    def _refuse_again(self, dead_letter_id: int, refusal: Refusal) -> None:
        parameters = {**describe_refusal(refusal), "id": dead_letter_id}
        self.connection.execute(self.database.compose("refuse_dead_letter_again"), parameters)


def _waiting(row: tuple[object, ...]) -> _Waiting:
    dead_letter_id, position_id, topic, partition, offset, event_at, key, value, names, values = row
    timestamp_ms = round(event_at.timestamp() * 1000) if isinstance(event_at, datetime) else None
    headers = tuple(zip(cast("list[str]", names), cast("list[bytes | None]", values), strict=True))
    message = Message(
        cast("str", topic),
        cast("int", partition),
        cast("int", offset),
        timestamp_ms,
        cast("bytes | None", key),
        cast("bytes | None", value),
        headers,
    )
    return _Waiting(cast("int", dead_letter_id), cast("int", position_id), message)
