"""Writes a plan: recorders, deletions, dead letters and movements, inside a transaction that the caller holds.

The order matters. Recorders and everything else that locks no cell comes first; then, register by register, deletions
and the COPY whose trigger folds. What the plan expects is compared with what the statements did.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

import psycopg
from psycopg import sql

from ingest.domain.batches import Decoded
from ingest.domain.messages import Event, Message, Refusal
from ingest.domain.plans import Plan, RecorderChange, RecorderKey, RecorderState, RegisterPlan, recorder_keys
from ingest.domain.positions import PartitionKey
from ingest.domain.registers import Register
from ingest.errors import TransientError
from ingest.postgres.arrays import bytea_array, number_array, text_array, time_array
from ingest.postgres.connections import Connection, Cursor, Database
from ingest.postgres.copying import copy_text, recorders_text


@dataclass(frozen=True, slots=True)
class Writer:
    """Writes into the registers it knows, over one connection."""

    connection: Connection
    database: Database
    registers: Mapping[str, Register]
    position_ids: Mapping[PartitionKey, int]

    def lock_recorders(self, items: Iterable[Decoded]) -> dict[RecorderKey, RecorderState]:
        """Lock the recorders of these events, in order, and return the states of those that are known."""
        wanted = recorder_keys(items)
        with self.connection.pipeline():
            cursors = {
                name: self._execute("lock_recorders", name, recorders=text_array(keys)) for name, keys in wanted.items()
            }
        states: dict[RecorderKey, RecorderState] = {}
        for name, cursor in cursors.items():
            for recorder, *state in cursor.fetchall():
                states[name, cast("str", recorder)] = RecorderState(
                    *cast("tuple[int | None, bytes, bool, datetime | None, datetime | None]", tuple(state))
                )
        return states

    def find_spilled(
        self, items: Iterable[Decoded], states: Mapping[RecorderKey, RecorderState]
    ) -> dict[RecorderKey, dict[int, int]]:
        """Return the older digests of recorders that have some outside their own row."""
        asked: dict[str, list[Event]] = {}
        for item in items:
            if isinstance(item, Event):
                state = states.get((item.register, item.recorder))
                if state is not None and state.spilled:
                    asked.setdefault(item.register, []).append(item)
        found: dict[RecorderKey, dict[int, int]] = {}
        for name, events in asked.items():
            repeating = [
                e for e in events if e.revision is not None and e.revision == states[name, e.recorder].revision
            ]
            cursor = self._execute(
                "find_spilled_events",
                name,
                recorders=sorted({event.recorder for event in events}),
                id_digests=sorted({event.id_digest for event in events}),
                repeating_recorders=sorted({event.recorder for event in repeating}),
                content_digests=sorted({event.content_digest for event in repeating}),
            )
            for recorder, id_digest, content in cursor.fetchall():
                found.setdefault((name, cast("str", recorder)), {})[cast("int", id_digest)] = cast("int", content)
        return found

    def write_recorders(self, plan: Plan, batch_id: int) -> None:
        """Write the recorders' new states; fails when a new one was made by somebody else meanwhile."""
        for register in plan.registers:
            self._copy_recorders(register, batch_id)
        known = [r for r in plan.registers if r.spills or any(change.before is not None for change in r.changes)]
        if not known:  # an empty pipeline is a round trip, too
            return
        with self.connection.pipeline():
            updated = [each for register in known for each in self._update_recorders(register, batch_id)]
        for cursor, count in updated:
            if cursor.rowcount != count:
                message = f"{count - cursor.rowcount} recorders that were locked are gone"
                raise TransientError(message)

    def write_dead_letters(self, refusals: Sequence[Refusal], batch_id: int) -> None:
        """Keep refused events, byte for byte."""
        if not refusals:
            return
        statement = self.database.compose("insert_dead_letter")
        with self.connection.cursor() as cursor:
            cursor.executemany(
                statement,
                [
                    {**describe_refusal(refusal), **self.describe_message(refusal.message), "batch_id": batch_id}
                    for refusal in refusals
                ],
            )

    def write_movements(self, plan: Plan, batch_id: int) -> None:
        """Delete and copy movements, register by register; from here on the transaction locks cells."""
        if any(change.clears for register in plan.registers for change in register.changes):
            self.connection.execute(self.database.compose("defer_fold"))
        for register in plan.registers:
            self._delete_movements(register)
            if register.events:
                self._copy_movements(register, batch_id)

    def _copy_recorders(self, plan: RegisterPlan, batch_id: int) -> None:
        register = self.registers[plan.register]
        new = [change for change in plan.changes if change.before is None]
        if not new:
            return
        if register.recorder_type in {"int", "bigint"}:
            # The order in which PostgreSQL locks them for everybody else.
            new.sort(key=lambda change: int(change.recorder))
        statement = self.database.compose("copy_recorders", **self._parts(register))
        try:
            with self.connection.cursor() as cursor, cursor.copy(statement) as copy:
                copy.write(recorders_text(new, self.position_ids, batch_id))
        except psycopg.errors.UniqueViolation as error:
            # Another writer made the same recorder first; its row is there now and can be locked.
            message = f"register {register.name}: recorders were written by another session at the same time"
            raise TransientError(message) from error

    def _update_recorders(self, plan: RegisterPlan, batch_id: int) -> Iterable[tuple[Cursor, int]]:
        known = [change for change in plan.changes if change.before is not None]
        if known:
            described = self._describe_changes(known)
            yield self._execute("update_recorders", plan.register, batch_id=batch_id, **described), len(known)
        if plan.spills:
            self._execute(
                "spill_events",
                plan.register,
                recorders=[spill.recorder for spill in plan.spills],
                id_digests=[spill.id_digest for spill in plan.spills],
                content_digests=[spill.content_digest for spill in plan.spills],
            )

    def _delete_movements(self, plan: RegisterPlan) -> None:
        cleared = [
            (change.recorder, change.before.first_period, change.before.last_period)
            for change in plan.changes
            if change.clears and change.before is not None
        ]
        filled = [(name, first, last) for name, first, last in cleared if first is not None and last is not None]
        if not filled:
            return
        with self.connection.pipeline():
            self.connection.execute(self.database.compose("see_partitions"), {"register": plan.register})
            self._execute(
                "delete_movements",
                plan.register,
                recorders=[recorder for recorder, _, _ in filled],
                first_period=min(first for _, first, _ in filled),
                last_period=max(last for _, _, last in filled),
            )
        if not plan.events:
            # The cells of this register must be locked before those of the next, so nothing may wait for the commit.
            self.connection.execute(self.database.compose("fold_now"))
            self.connection.execute(self.database.compose("fold_later"))

    def _copy_movements(self, plan: RegisterPlan, batch_id: int) -> None:
        register = self.registers[plan.register]
        names = [column.name for column in register.dimensions] + [column.name for column in register.resources]
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        statement = self.database.compose("copy_movements", columns=columns, **self._parts(register))
        with self.connection.cursor() as cursor:
            with cursor.copy(statement) as copy:
                for text in copy_text(plan.events, self.position_ids, batch_id):
                    copy.write(text)
            if cursor.rowcount != plan.movements:
                message = f"register {register.name}: copied {cursor.rowcount} of {plan.movements} movements"
                raise TransientError(message)

    def _describe_changes(self, changes: Sequence[RecorderChange]) -> dict[str, object]:
        states = [change.after for change in changes]
        messages = [change.last_event.message for change in changes]
        first, last = [state.first_period for state in states], [state.last_period for state in states]
        first_periods = time_array(first)
        return {
            "recorders": text_array([change.recorder for change in changes]),
            "revisions": number_array([state.revision for state in states]),
            "event_digests": bytea_array([state.digests for state in states]),
            "spilled": [state.spilled for state in states],
            "first_periods": first_periods,
            # Most documents have one period.
            "last_periods": first_periods if last == first else time_array(last),
            "position_ids": number_array([self._position_id(message) for message in messages]),
            "event_offsets": number_array([message.offset for message in messages]),
        }

    def describe_message(self, message: Message) -> dict[str, object]:
        """Return the columns that keep a record as it came."""
        return {
            "position_id": self._position_id(message),
            "event_offset": message.offset,
            "event_at": event_time(message.timestamp_ms),
            "event_key": message.key,
            "event_value": message.value,
            "header_names": [storable(name) for name, _ in message.headers],
            "header_values": [value for _, value in message.headers],
        }

    def _position_id(self, message: Message) -> int:
        return self.position_ids[message.topic, message.partition]

    def _execute(self, name: str, register: str, **parameters: object) -> Cursor:
        statement = self.database.compose(name, **self._parts(self.registers[register]))
        return self.connection.execute(statement, parameters)

    def _parts(self, register: Register) -> dict[str, sql.Composable]:
        return {
            "movements": self.database.table(f"{register.name}_movements"),
            "recorders": self.database.table(f"{register.name}_recorders"),
            "recorder_events": self.database.table(f"{register.name}_recorder_events"),
            # One of the four words that a declaration may use.
            "recorder_type": sql.Identifier("pg_catalog", _TYPE_NAMES[register.recorder_type]),
        }


def describe_refusal(refusal: Refusal) -> dict[str, object]:
    """Return the columns that say why an event was refused."""
    return {
        "reason": refusal.reason.value,
        "path": storable(refusal.path),
        "detail": storable(refusal.detail),
        "sqlstate": refusal.sqlstate,
        "register": storable(refusal.register),
        "recorder": storable(refusal.recorder),
        "event_id": storable(refusal.event_id),
    }


def storable(text: str | None) -> str | None:
    """Return the text as PostgreSQL can keep it: without NUL and lone surrogates, which stay visible as escapes."""
    if text is None:
        return None
    return text.replace("\0", "\\u0000").encode("utf-8", "backslashreplace").decode("utf-8")


def event_time(timestamp_ms: int | None) -> datetime | None:
    """Return the time of a record; producers may write any number there, and some write microseconds."""
    if timestamp_ms is None:
        return None
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


_TYPE_NAMES = {"text": "text", "int": "int4", "bigint": "int8", "uuid": "uuid"}
