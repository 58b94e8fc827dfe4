"""What a batch does to each recorder, decided from the recorders' states as the transaction has locked them.

`plan_batch` is the whole of the exactly-once rule for producers that repeat themselves: an id that was seen changes
nothing, an older revision changes nothing, and the same id or revision with other content is refused.
"""

import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

import msgspec

from ingest.domain.batches import Decoded
from ingest.domain.messages import Event, EventType, Reason, Refusal
from ingest.domain.positions import PartitionKey, TopicPartition

RecorderKey: TypeAlias = tuple[str, str]
"""Register and recorder."""

RECENT_EVENTS = 64
"""Digests kept in a recorder's own row; older ones are spilled to a table of their own, half of them at a time."""

_PAIR = struct.Struct(">qq")


class Outcome(StrEnum):
    """What became of an event: exactly one of these."""

    APPLIED = "applied"
    DUPLICATE = "duplicate"
    STALE = "stale"
    DEAD_LETTER = "dead_letter"


class RecorderState(msgspec.Struct, frozen=True, gc=False):
    """A recorder's row: what it has seen. `digests` holds id and content of each recent event, oldest first."""

    revision: int | None = None
    digests: bytes = b""
    spilled: bool = False
    first_period: datetime | None = None
    last_period: datetime | None = None


@dataclass(frozen=True, slots=True)
class Spill:
    """The digests of an event that no longer fit in its recorder's row."""

    recorder: str
    id_digest: int
    content_digest: int


class RecorderChange(msgspec.Struct, frozen=True, gc=False):
    """A recorder's new state; `before` is None for a new recorder, `clears` removes its movements in the database."""

    recorder: str
    before: RecorderState | None
    after: RecorderState
    last_event: Event
    clears: bool


@dataclass(frozen=True, slots=True)
class RegisterPlan:
    """Everything a batch does to one register, recorders in order; `events` are those whose movements are written."""

    register: str
    changes: tuple[RecorderChange, ...]
    events: tuple[Event, ...]
    spills: tuple[Spill, ...]

    @property
    def movements(self) -> int:
        """The number of movements to write."""
        return sum(event.movements.count for event in self.events)


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything a batch does, registers in order; `outcomes` counts every event of it exactly once."""

    registers: tuple[RegisterPlan, ...]
    refusals: tuple[Refusal, ...]
    outcomes: Mapping[TopicPartition, Counter[Outcome]]
    movements: Mapping[TopicPartition, int]


class _Recorder(msgspec.Struct, gc=False):
    """A recorder while its events are gone through.

    `recent` has the content of each recent event by its id, oldest first. There is one of these for nearly every event,
    so it has no list: those the garbage collector would look at again and again.
    """

    before: RecorderState | None = None
    spilled: Mapping[int, int] = {}
    revision: int | None = None
    recent: dict[int, int] = {}
    first_period: datetime | None = None
    last_period: datetime | None = None
    events: tuple[Event, ...] = ()
    clears: bool = False
    last_event: Event | None = None

    def judge(self, event: Event) -> Outcome | Reason:
        """Say what becomes of the event; a Reason refuses it."""
        known = self.recent.get(event.id_digest)
        if known is None:
            known = self.spilled.get(event.id_digest)
        if known is not None:
            return Outcome.DUPLICATE if known == event.content_digest else Reason.ID_CONFLICT
        if event.revision is None or self.revision is None or event.revision > self.revision:
            return Outcome.APPLIED
        if event.revision < self.revision:
            return Outcome.STALE
        # The content includes the revision, so whichever event has the same content had this revision as well.
        seen = event.content_digest in self.recent.values() or event.content_digest in self.spilled.values()
        return Outcome.DUPLICATE if seen else Reason.REVISION_CONFLICT

    def apply(self, event: Event) -> None:
        """Let the event change the recorder."""
        if event.type is not EventType.MOVEMENT:
            self.clears = self.before is not None
            self.events = ()
            self.first_period = self.last_period = None
        if event.movements.count:
            self.events += (event,)
            first, last = event.movements.periods[0], event.movements.periods[-1]
            self.first_period = first if self.first_period is None else min(first, self.first_period)
            self.last_period = last if self.last_period is None else max(last, self.last_period)
        self.recent[event.id_digest] = event.content_digest
        if event.revision is not None:
            self.revision = event.revision
        self.last_event = event

    def change(self, recorder: str, spills: list[Spill]) -> RecorderChange | None:
        """Return the recorder's new state, or None where no event was applied."""
        if self.last_event is None:
            return None
        before = self.before or RecorderState()
        spilled, digests = before.spilled, before.digests
        known = len(digests) // _PAIR.size
        if len(self.recent) == known + 1:
            digests += _PAIR.pack(self.last_event.id_digest, self.last_event.content_digest)
        else:
            digests += b"".join([_PAIR.pack(*pair) for pair in list(self.recent.items())[known:]])
        if len(self.recent) > RECENT_EVENTS:
            keep = RECENT_EVENTS // 2
            spills.extend(Spill(recorder, *pair) for pair in list(self.recent.items())[:-keep])
            digests = digests[-keep * _PAIR.size :]
            spilled = True
        after = RecorderState(self.revision, digests, spilled, self.first_period, self.last_period)
        return RecorderChange(recorder, self.before, after, self.last_event, self.clears)


def plan_batch(
    items: Sequence[Decoded],
    states: Mapping[RecorderKey, RecorderState],
    spilled: Mapping[RecorderKey, Mapping[int, int]],
) -> Plan:
    """Decide what the batch does, given the locked states of the recorders that exist.

    `spilled` holds, for recorders whose state says so, the content digest of older events by their id digest: of those
    with an id or with the content of one of these events.
    """
    recorders: dict[str, dict[str, _Recorder]] = {}
    refusals: list[Refusal] = []
    outcomes: dict[PartitionKey, list[Outcome]] = {}
    for item in items:
        verdict = item if isinstance(item, Refusal) else _decide(item, recorders, states, spilled)
        if isinstance(verdict, Refusal):
            refusals.append(verdict)
            verdict = Outcome.DEAD_LETTER
        message = item.message
        outcomes.setdefault((message.topic, message.partition), []).append(verdict)
    registers = tuple(_plan_register(name, recorders[name]) for name in sorted(recorders))
    counted = {TopicPartition(*partition): Counter(each) for partition, each in outcomes.items()}
    return Plan(tuple(r for r in registers if r.changes), tuple(refusals), counted, _count_movements(registers))


def recorder_keys(items: Iterable[Decoded]) -> dict[str, list[str]]:
    """The recorders whose states a plan needs: register to recorders, both in order."""
    wanted: dict[str, set[str]] = {}
    for item in items:
        if isinstance(item, Event):
            wanted.setdefault(item.register, set()).add(item.recorder)
    return {register: sorted(wanted[register]) for register in sorted(wanted)}


def refuse(event: Event, reason: Reason, detail: str, path: str = "", sqlstate: str | None = None) -> Refusal:
    """Turn an accepted event into a refused one, for a reason that only the database could know."""
    return Refusal(event.message, reason, path, detail, event.register, event.recorder, event.id, sqlstate)


def _decide(
    event: Event,
    recorders: dict[str, dict[str, _Recorder]],
    states: Mapping[RecorderKey, RecorderState],
    spilled: Mapping[RecorderKey, Mapping[int, int]],
) -> Outcome | Refusal:
    of_register = recorders.get(event.register)
    if of_register is None:
        of_register = recorders[event.register] = {}
    recorder = of_register.get(event.recorder)
    if recorder is None:
        key = event.register, event.recorder
        before = states.get(key)
        recorder = _Recorder() if before is None else _open(before, spilled.get(key, {}))
        of_register[event.recorder] = recorder
    verdict = recorder.judge(event)
    if verdict is Reason.ID_CONFLICT:
        return refuse(event, verdict, f"id {event.id} was applied before with other content", "id")
    if isinstance(verdict, Reason):
        return refuse(event, verdict, f"revision {event.revision} was applied before with other content", "revision")
    if verdict is Outcome.APPLIED:
        recorder.apply(event)
    return verdict


def _open(before: RecorderState, spilled: Mapping[int, int]) -> _Recorder:
    recent = dict(_PAIR.iter_unpack(before.digests))
    return _Recorder(before, spilled, before.revision, recent, before.first_period, before.last_period)


def _plan_register(name: str, recorders: Mapping[str, _Recorder]) -> RegisterPlan:
    changes: list[RecorderChange] = []
    events: list[Event] = []
    spills: list[Spill] = []
    for recorder in sorted(recorders):
        change = recorders[recorder].change(recorder, spills)
        if change is not None:
            changes.append(change)
            events += recorders[recorder].events
    return RegisterPlan(name, tuple(changes), tuple(events), tuple(spills))


def _count_movements(registers: Iterable[RegisterPlan]) -> Mapping[TopicPartition, int]:
    counts: dict[PartitionKey, int] = {}
    for register in registers:
        for event in register.events:
            partition = event.message.topic, event.message.partition
            counts[partition] = counts.get(partition, 0) + event.movements.count
    return {TopicPartition(*partition): count for partition, count in counts.items()}
