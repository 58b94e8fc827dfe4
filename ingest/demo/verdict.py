"""Whether everything came out right: the registers against their own movements, and against the shop's books."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from ingest.demo.books import Books, Key
from ingest.demo.readings import Readings
from ingest.demo.shop import INVENTORY, SALES
from ingest.domain.status import StoredPosition
from ingest.postgres.care import Difference

LOOK_BACK = date(2026, 3, 31)
"""A day in the middle of the story; corrections that were sent later are dated back to before it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was compared, with what is wrong about it."""

    claim: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything that was read from the database when all events had been dealt with."""

    positions: Sequence[StoredPosition]
    refused: Counter[str]
    differences: Mapping[str, Sequence[Difference]]
    movements: Mapping[str, int]

    def count(self, field: str) -> int:
        """Add up a count over all partitions."""
        return sum(getattr(position, field) for position in self.positions)


def judge(books: Books, readings: Readings, findings: Findings) -> Iterator[Check]:
    """Compare; the order is that of the printed list."""
    for register, derived in ((INVENTORY, "balances and totals"), (SALES, "totals")):
        found = findings.movements[register]
        yield Check(
            f"verify {register}: {derived} are the sums of its {found:,} movements",
            tuple(f"{d.check} {d.period or ''} cell {d.dim_hash}: {d.status}" for d in findings.differences[register])
            + _unequal("movements", books.movements(register), found),
        )
    expected, found_now = books.balances(INVENTORY), readings.balances()
    yield Check(f"all {len(expected):,} balances equal the shop's own books", _compare(expected, found_now))
    expected, found_then = books.balances(INVENTORY, LOOK_BACK), readings.balances_at(LOOK_BACK)
    yield Check(f"so do the {len(expected):,} of {LOOK_BACK:%-d %B}", _compare(expected, found_then))
    by_day, found_by_day = books.turnovers(SALES), readings.turnovers()
    yield Check(f"and the {len(by_day):,} turnovers per product, channel and day", _compare(by_day, found_by_day))
    yield Check(
        f"{books.duplicates:,} duplicates and {books.stale:,} stale events were skipped",
        _unequal("duplicates", books.duplicates, findings.count("duplicates"))
        + _unequal("stale events", books.stale, findings.count("stale")),
    )
    yield Check(
        f"{books.refused.total()} bad events were refused, each for its reason",
        _compare(books.refused, findings.refused),
    )


def _compare(expected: Mapping[Key, object], found: Mapping[Key, object]) -> tuple[str, ...]:
    keys = [key for key in {**expected, **found} if expected.get(key) != found.get(key)]
    return tuple(f"{_show(key)}: {_show(found.get(key))}, not {_show(expected.get(key))}" for key in keys)


def _unequal(what: str, expected: int, found: int) -> tuple[str, ...]:
    return () if expected == found else (f"{what}: {found:,}, not {expected:,}",)


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join("null" if part is None else _show(part) for part in value)
    return "nothing" if value is None else str(value)
