"""Plans: what a batch does to each recorder, as a table. One line is a story; borders of batches never change it."""

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime

import pytest

from ingest.domain.keys import content_digest, id_digest
from ingest.domain.messages import Event, EventType, Message, Movement, Movements, Reason, Refusal
from ingest.domain.plans import (
    RECENT_EVENTS,
    Outcome,
    Plan,
    RecorderKey,
    RecorderState,
    plan_batch,
    recorder_keys,
)
from ingest.domain.positions import TopicPartition

# Events are written as TYPE RECORDER ID [@REVISION] LINE…, a line is a word; ";" is between events, "->" before what
# becomes of each, ":" before what the recorders have in the end.
STORIES = """
a movement adds              | movement r a x; movement r b y z          -> applied applied        : r=x,y,z
the same id again            | movement r a x; movement r a x            -> applied duplicate      : r=x
the same id, other content   | movement r a x; movement r a y            -> applied id_conflict    : r=x
the same id, other type      | movement r a x; repost r a x              -> applied id_conflict    : r=x
the same id, other revision  | movement r a x; movement r a @1 x         -> applied id_conflict    : r=x
the same id, other recorder  | movement r a x; movement s a y            -> applied applied        : r=x s=y
lines in another order       | movement r a x y; movement r a y x        -> applied id_conflict    : r=x,y
a repost replaces            | movement r a x y; repost r b z            -> applied applied        : r=z
a repost of a new recorder   | repost r a x                              -> applied                : r=x
a repost to nothing          | movement r a x; repost r b                -> applied applied        : r=
a repost twice in one batch  | repost r a x; repost r b y                -> applied applied        : r=y
adding after a repost        | repost r a x; movement r b y              -> applied applied        : r=x,y
a repost comes again         | repost r a x; movement r b y; repost r a x -> applied applied duplicate : r=x,y
an unpost removes            | movement r a x; unpost r b                -> applied applied        : r=
an unpost of nobody          | unpost r a                                -> applied                : r=
an unpost twice, one id      | movement r a x; unpost r b; unpost r b    -> applied applied duplicate : r=
an unpost twice, two ids     | movement r a x; unpost r b; unpost r c    -> applied applied applied : r=
posting after an unpost      | movement r a x; unpost r b; movement r c y -> applied applied applied : r=y
a cancelled event comes late | unpost r b; movement r a x                -> applied applied        : r=x
a growing revision           | repost r a @1 x; repost r b @2 y          -> applied applied        : r=y
a revision may jump          | repost r a @1 x; repost r b @900 y        -> applied applied        : r=y
a lower revision             | repost r a @2 x; repost r b @1 y          -> applied stale          : r=x
a stale unpost               | movement r a @5 x; unpost r b @4          -> applied stale          : r=x
a stale one comes again      | repost r a @2 x; repost r b @1 y; repost r b @1 y -> applied stale stale : r=x
equal revision, same content | repost r a @1 x; repost r b @1 x          -> applied duplicate      : r=x
equal revision, other one    | repost r a @1 x; repost r b @1 y          -> applied revision_conflict : r=x
equal revision, other type   | movement r a @1 x; repost r b @1 x        -> applied revision_conflict : r=x
an id is stronger            | repost r a @1 x; repost r b @2 y; repost r a @1 x -> applied applied duplicate : r=y
no revision after one        | repost r a @3 x; movement r b y           -> applied applied        : r=x,y
revision after none          | movement r a x; repost r b @1 y           -> applied applied        : r=y
revision remembered past one without | repost r a @3 x; movement r b y; repost r c @2 z -> applied applied stale : r=x,y
revision zero and below      | repost r a @0 x; repost r b @-1 y         -> applied stale          : r=x
a refused one leaves no mark | movement r a x; movement r a y; movement r a x -> applied id_conflict duplicate : r=x
an earlier line comes later  | movement r a xxx; movement r b x          -> applied applied        : r=xxx,x
registers are apart          | movement A/r a x; movement B/r a y        -> applied applied        : A/r=x B/r=y
many of one recorder         | repost r b y; unpost r c; movement r d w -> applied applied applied : r=w
"""


def read_event(text: str, number: int) -> Event:
    """An event from its words, in a partition of its own, so that its outcome can be told from the others'."""
    kind, who, event_id, *rest = text.split()
    revision = int(rest.pop(0)[1:]) if rest and rest[0].startswith("@") else None
    register, _, recorder = who.rpartition("/")
    movements = Movements.of(Movement(datetime(2026, 4, 1 + len(word), tzinfo=UTC), (word,)) for word in rest)
    event_type = EventType(kind)
    return Event(
        message=Message("t", number, number, None, None, b""),
        type=event_type,
        register=register or "register",
        recorder=recorder,
        id=event_id,
        revision=revision,
        movements=movements,
        id_digest=id_digest(event_id),
        content_digest=content_digest(event_type, revision, movements),
    )


class Recorders:
    """What the database would keep from batch to batch."""

    def __init__(self) -> None:
        self.states: dict[RecorderKey, RecorderState] = {}
        self.spilled: dict[RecorderKey, dict[int, int]] = {}
        self.lines: dict[RecorderKey, list[str]] = {}
        self._next = 0

    def read(self, texts: Iterable[str]) -> list[Event]:
        events = [read_event(text, self._next + number) for number, text in enumerate(texts)]
        self._next += len(events)
        return events

    def apply(self, texts: Iterable[str]) -> list[str]:
        """Plans and keeps one batch; what became of each event."""
        events = self.read(texts)
        plan = plan_batch(events, self.states, self.spilled)
        self.keep(plan)
        reasons = {refusal.message.partition: refusal.reason.value for refusal in plan.refusals}
        words = []
        for event in events:
            number = event.message.partition
            ((outcome, count),) = plan.outcomes[TopicPartition("t", number)].items()
            assert count == 1
            assert (outcome is Outcome.DEAD_LETTER) == (number in reasons)
            words.append(reasons.get(number, outcome.value))
        return words

    def keep(self, plan: Plan) -> None:
        for register in plan.registers:
            for change in register.changes:
                key = register.register, change.recorder
                assert change.before == self.states.get(key)
                assert change.clears <= (change.before is not None)
                self.states[key] = change.after
                if change.clears:
                    self.lines[key] = []
                self.lines.setdefault(key, [])
            for spill in register.spills:
                known = self.spilled.setdefault((register.register, spill.recorder), {})
                assert spill.id_digest not in known
                known[spill.id_digest] = spill.content_digest
            for event in register.events:
                self.lines[register.register, event.recorder] += [str(each.values[0]) for each in event.movements]
            assert register.movements == sum(len(event.movements) for event in register.events)
        for key, state in self.states.items():
            days = [datetime(2026, 4, 1 + len(word), tzinfo=UTC) for word in self.lines[key]]
            assert state.first_period == min(days, default=None)
            assert state.last_period == max(days, default=None)

    def __str__(self) -> str:
        return " ".join(
            f"{'' if register == 'register' else register + '/'}{recorder}={','.join(lines)}"
            for (register, recorder), lines in sorted(self.lines.items())
        )


def stories() -> Iterable[object]:
    """The table's lines, read."""
    for line in STORIES.strip().splitlines():
        name, rest = line.split("|")
        events, rest = rest.split("->")
        outcomes, after = rest.split(":")
        yield pytest.param([e.strip() for e in events.split(";")], outcomes.split(), after.strip(), id=name.strip())


@pytest.mark.scenario("X11")
@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(("events", "outcomes", "after"), list(stories()))
def test_stories(size: int, events: list[str], outcomes: list[str], after: str) -> None:
    """Each event has exactly the outcome that the contract gives it, in whichever batches it comes."""
    recorders = Recorders()
    found = [word for start in range(0, len(events), size) for word in recorders.apply(events[start : start + size])]
    assert found == outcomes
    assert str(recorders) == after


@pytest.mark.parametrize("size", [1, 7, RECENT_EVENTS, RECENT_EVENTS + 1, 1000])
def test_no_duplicate_is_ever_forgotten(size: int) -> None:
    """Digests of older events leave the recorder's row for a table; every one of 300 events is known to come again."""
    recorders = Recorders()
    texts = [f"movement r e{number} w{number}" for number in range(300)]
    for start in range(0, len(texts), size):
        assert set(recorders.apply(texts[start : start + size])) == {"applied"}
        (state,) = recorders.states.values()
        assert len(state.digests) <= 16 * RECENT_EVENTS
    assert recorders.states["register", "r"].spilled
    for start in range(0, len(texts), size):
        assert set(recorders.apply(texts[start : start + size])) == {"duplicate"}
    assert recorders.apply(["movement r e0 other", "movement r e299 other"]) == ["id_conflict", "id_conflict"]
    assert len(recorders.lines["register", "r"]) == 300


def test_few_events_stay_in_the_recorders_row() -> None:
    """Up to the bound nothing is spilled, so the usual recorder needs no second lookup."""
    recorders = Recorders()
    for number in range(RECENT_EVENTS):
        recorders.apply([f"movement r e{number} w"])
    assert not recorders.states["register", "r"].spilled
    assert recorders.spilled == {}


def test_equal_revision_is_recognised_after_a_spill() -> None:
    """A revision that comes again under a new id is a duplicate, even when many events without one came between."""
    recorders = Recorders()
    recorders.apply(["repost r a @7 x"])
    recorders.apply([f"movement r e{number} w" for number in range(3 * RECENT_EVENTS)])
    assert recorders.apply(["repost r b @7 x", "repost r c @7 y", "repost r d @6 x"]) == [
        "duplicate",
        "revision_conflict",
        "stale",
    ]


def test_changes_and_events_are_ordered() -> None:
    """Registers and recorders come in order, so that all batches lock them in one order; events follow them."""
    recorders = Recorders()
    events = recorders.read(["movement B/z a x", "movement B/b a y", "movement A/q a z", "movement B/b b w"])
    plan = plan_batch(events, {}, {})
    assert [(r.register, [c.recorder for c in r.changes]) for r in plan.registers] == [("A", ["q"]), ("B", ["b", "z"])]
    assert [(event.id, event.movements[0].values[0]) for event in plan.registers[1].events] == [
        ("a", "y"),
        ("b", "w"),
        ("a", "x"),
    ]
    assert recorder_keys([*events, refusal(9)]) == {"A": ["q"], "B": ["b", "z"]}
    assert list(recorder_keys(events)) == ["A", "B"]


def test_only_what_is_in_the_database_is_cleared() -> None:
    """A repost of what the same batch has added deletes nothing: there is nothing to delete yet."""
    recorders = Recorders()
    plan = plan_batch(recorders.read(["movement r a x", "repost r b y", "movement r c z"]), {}, {})
    (change,) = plan.registers[0].changes
    assert (change.before, change.clears) == (None, False)
    assert [event.movements[0].values[0] for event in plan.registers[0].events] == ["y", "z"]
    assert change.last_event.id == "c"


def test_duplicates_change_no_recorder() -> None:
    """A batch of nothing new writes no recorder and no row."""
    recorders = Recorders()
    recorders.apply(["movement r a @1 x"])
    events = recorders.read(["movement r a @1 x", "repost r b @0 y", "movement r a y"])
    plan = plan_batch(events, recorders.states, {})
    assert plan.registers == ()
    assert plan.movements == {}


def refusal(number: int) -> Refusal:
    """A record that was refused in decoding."""
    return Refusal(Message("t", number, number, None, None, b""), Reason.NOT_JSON, "", "no")


def test_every_event_is_counted_once_where_it_came_from() -> None:
    """Counts are per partition and add up to the events; movements count where they were written."""
    events = [read_event(text, 0) for text in ("movement r a x y", "movement r a x y", "movement r b z")]
    other = [read_event(text, 1) for text in ("repost r c w", "movement r a v")]
    plan = plan_batch([*events, *other, refusal(1), refusal(2)], {}, {})
    assert plan.outcomes == {
        TopicPartition("t", 0): Counter({Outcome.APPLIED: 2, Outcome.DUPLICATE: 1}),
        TopicPartition("t", 1): Counter({Outcome.APPLIED: 1, Outcome.DEAD_LETTER: 2}),
        TopicPartition("t", 2): Counter({Outcome.DEAD_LETTER: 1}),
    }
    assert plan.movements == {TopicPartition("t", 1): 1}


def test_a_conflict_says_what_and_where() -> None:
    """A refused event keeps its record, and names the key that is wrong."""
    events = [read_event(text, n) for n, text in enumerate(["repost r a @1 x", "repost r a y", "repost r b @1 z"])]
    conflict, revision = plan_batch(events, {}, {}).refusals
    assert (conflict.reason, conflict.path, conflict.event_id) == (Reason.ID_CONFLICT, "id", "a")
    assert (revision.reason, revision.path, revision.recorder) == (Reason.REVISION_CONFLICT, "revision", "r")
    assert conflict.message is events[1].message
