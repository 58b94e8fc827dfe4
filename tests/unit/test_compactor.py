"""The compactor's loop: slices go through the whole table, shrink when they fail, and nothing that fails ends it."""

from dataclasses import dataclass, field, replace

import pytest
from structlog.testing import capture_logs

from ingest.compactor import Chore, Compactor, CompactorLimits
from ingest.domain.compacting import LAST_KEY, Merged, PendingDeltas, Slice
from ingest.errors import DataError, OperatorError, TransientError
from tests.support.fakes import FakeClock

LIMITS = CompactorLimits(slice_deltas=8, slices_per_turn=5, min_age_ms=0, vacuum_every_ms=0)


@dataclass
class FakeDeltas:
    """Deltas of cells 1, 2, …; a bad one cannot be added up, and some failures wait to happen."""

    tables: dict[str, list[int]]
    bad: set[int] = field(default_factory=set)
    failures: list[Exception] = field(default_factory=list)
    asked: list[Slice] = field(default_factory=list)
    vacuumed: list[str] = field(default_factory=list)
    waiting: list[PendingDeltas] = field(default_factory=list)
    clock: FakeClock | None = None
    takes_s: float = 0.0
    closed: bool = False

    def registers(self) -> list[str]:
        return list(self.tables)

    def merge(self, wanted: Slice) -> Merged:
        self.asked.append(wanted)
        if self.clock is not None:
            self.clock.time += self.takes_s
        if self.failures:
            raise self.failures.pop(0)
        table = self.tables[wanted.register]
        found = sorted(key for key in table if key >= wanted.first_key)[: wanted.most]
        if not found:
            return Merged(0, None)
        if self.bad.intersection(found):
            return Merged(0, found[-1], "out of range")
        self.tables[wanted.register] = [key for key in table if key not in found]
        return Merged(len(found), found[-1])

    def vacuum(self, register: str) -> None:
        self.vacuumed.append(register)

    def pending(self) -> list[PendingDeltas]:
        return self.waiting

    def close(self) -> None:
        self.closed = True


def compactor(deltas: FakeDeltas, *chores: Chore, stop_after: int = 1) -> Compactor:
    """One that is told to stop when it has slept so often."""
    clock = FakeClock()
    made = Compactor(deltas, chores, clock, LIMITS)
    clock.alarms = [*[lambda: None] * (stop_after - 1), made.stop]
    return made


def test_everything_is_folded_in_slices() -> None:
    """Of all registers, never more than a slice at a time, and the space is made free."""
    deltas = FakeDeltas({"a": list(range(1, 101)), "b": [5]})
    made = compactor(deltas)
    made.run()
    assert deltas.tables == {"a": [], "b": []}
    assert (made.tally.deltas, max(s.most for s in deltas.asked), deltas.closed) == (101, 8, True)
    assert {"a", "b"} == set(deltas.vacuumed)


def test_it_rests_after_each_slice_but_not_when_it_drains() -> None:
    """For as long as the slice took, so that batches have their turn; `--once` does not keep anybody waiting."""
    clock = FakeClock()
    deltas = FakeDeltas({"a": list(range(1, 25))}, clock=clock, takes_s=0.04)
    made = Compactor(deltas, [], clock, LIMITS)
    clock.alarms = [*[lambda: None] * 3, made.stop]
    made.run()
    assert deltas.tables == {"a": []}
    assert clock.slept == pytest.approx([0.04] * 3)
    deltas.tables = {"a": list(range(1, 25))}
    Compactor(deltas, [], clock, LIMITS).drain()
    assert (deltas.tables, len(clock.slept)) == ({"a": []}, 3)


def test_the_last_cell_of_all_ends_a_walk() -> None:
    """There is none behind it, even where it cannot be added up."""
    assert Merged(3, LAST_KEY).next_key == LAST_KEY
    assert Merged(0, LAST_KEY, "out of range").next_key is None
    assert Merged(0, 7, "out of range").next_key == 8
    assert Merged(0, None).next_key is None


@pytest.mark.scenario("C8")
def test_slices_shrink_with_every_failure_and_grow_again() -> None:
    """Half as many deltas after each timeout, after a pause; nothing is lost."""
    deltas = FakeDeltas({"a": list(range(1, 30))}, failures=[TransientError("timeout")] * 2)
    made = compactor(deltas, stop_after=4)
    made.run()
    assert [s.most for s in deltas.asked][:6] == [8, 4, 2, 4, 8, 8]
    assert (deltas.tables, made.tally.retries) == ({"a": []}, 2)


def test_a_delta_that_cannot_be_folded_stays_alone() -> None:
    """All others are folded; it is looked at again in every pass."""
    deltas = FakeDeltas({"a": list(range(1, 50))}, bad={17})
    made = compactor(deltas, stop_after=6)
    made.run()
    assert deltas.tables == {"a": [17]}
    assert made.tally.deltas == 48
    deltas.bad.clear()
    compactor(deltas).run()
    assert deltas.tables == {"a": []}


@pytest.mark.parametrize("failure", [TransientError("down"), OperatorError("no rights"), DataError("TS031", "gone")])
def test_a_chore_that_fails_stops_nothing(failure: Exception) -> None:
    """Folding and the other chores go on; it is tried again at its next turn."""
    did: list[str] = []

    def fails() -> int:
        did.append("tried")
        raise failure

    def works() -> int:
        did.append("worked")
        return 1 if len(did) < 4 else 0

    deltas = FakeDeltas({"a": [1, 2, 3]})
    compactor(deltas, Chore("bad", 60_000, fails), Chore("good", 60_000, works)).run()
    assert did == ["tried", "worked", "worked", "worked"]
    assert deltas.tables == {"a": []}


def test_drain_folds_what_is_there_and_does_each_chore() -> None:
    """However many turns it takes, failures in between included."""
    left = [3]

    def step() -> int:
        left[0] -= 1
        return left[0]

    deltas = FakeDeltas({"a": list(range(1, 200)), "b": [1]}, failures=[TransientError("deadlock")])
    made = compactor(deltas, Chore("tidy", 60_000, step), stop_after=100)
    made.drain()
    assert deltas.tables == {"a": [], "b": []}
    assert (left, made.tally.chores, deltas.closed) == ([0], {"tidy": 3}, True)


def test_drain_gives_up_on_what_goes_on_failing() -> None:
    """The failure is the answer of `--once`."""
    deltas = FakeDeltas({"a": [1]}, failures=[TransientError("down")] * 100)
    with pytest.raises(TransientError, match="down"):
        compactor(deltas, stop_after=100).drain()
    assert deltas.closed


def test_stopping_finishes_the_slice_under_way() -> None:
    """And begins no other, nor a chore."""
    deltas = FakeDeltas({"a": list(range(1, 101))})
    made = compactor(deltas, Chore("tidy", 1, lambda: pytest.fail("a chore was begun")), stop_after=100)
    merge = deltas.merge

    def stopping(wanted: Slice) -> Merged:
        made.stop()
        return merge(wanted)

    deltas.merge = stopping  # type: ignore[method-assign]
    made.run()
    assert (len(deltas.asked), made.tally.deltas) == (1, 8)


@pytest.mark.scenario("C5")
def test_deltas_that_wait_for_too_long_are_an_error_in_the_log() -> None:
    """Those of a moment ago are not; the numbers of both are told."""
    waiting = [PendingDeltas("a", True, 7, 301.0), PendingDeltas("b", True, 1, 2.0), PendingDeltas("c", True, 0, None)]  # noqa: FBT003 - a mode
    clock = FakeClock()
    made = Compactor(FakeDeltas({}, waiting=waiting), [], clock, replace(LIMITS, report_every_ms=0, alarm_ms=300_000))
    clock.alarms = [made.stop]
    with capture_logs() as logs:
        made.run()
    errors = [log for log in logs if log["log_level"] == "error"]
    assert [log["registers"] for log in errors] == [["a"]]
    assert next(log["pending"]["a"] for log in logs if log["event"] == "progress") == {"deltas": 7, "age_s": 301.0}
