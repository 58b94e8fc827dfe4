"""The shop's own books: what the registers have to say in the end, worked out without them.

The shop enters here what each document says, not the events that tell of it: books know no ids, revisions, duplicates
or order of arrival. So a mistake in how events are applied cannot be repeated in these sums.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import TypeAlias, TypeVar
from zoneinfo import ZoneInfo

TIME_ZONE = ZoneInfo("Europe/London")
"""Of the shop, and of both its registers."""

Dimensions: TypeAlias = tuple[str | None, ...]
Resources: TypeAlias = tuple[Decimal, ...]
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a document: a movement, as the shop means it."""

    period: datetime
    dimensions: Dimensions
    resources: Resources

    @property
    def day(self) -> date:
        """The shop's day that the line belongs to."""
        return self.period.astimezone(TIME_ZONE).date()


@dataclass(slots=True)
class Books:
    """What every document says now, and how many events have to come to nothing."""

    duplicates: int = 0
    stale: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    _documents: dict[tuple[str, str], tuple[Line, ...]] = field(default_factory=dict)

    def write(self, register: str, document: str, lines: tuple[Line, ...]) -> None:
        """Let the document say this, whatever it said before."""
        self._documents[register, document] = lines

    def read(self, register: str, document: str) -> tuple[Line, ...]:
        """Return what the document says; nothing when there is no such document."""
        return self._documents.get((register, document), ())

    def movements(self, register: str) -> int:
        """Count the lines of all documents."""
        return len(self._lines(register))

    def balances(self, register: str, at_date: date = date.max) -> Mapping[Dimensions, Resources]:
        """Add up each cell, up to the end of a day; cells that came to nothing are left out."""
        lines = [line for line in self._lines(register) if line.day <= at_date]
        return _add_up(lines, lambda line: line.dimensions)

    def turnovers(self, register: str) -> Mapping[tuple[date, Dimensions], Resources]:
        """Add up each cell and day of the shop; what came to nothing is left out."""
        return _add_up(self._lines(register), lambda line: (line.day, line.dimensions))

    def _lines(self, register: str) -> list[Line]:
        return [line for (owner, _), lines in self._documents.items() if owner == register for line in lines]


def _add_up(lines: Iterable[Line], key_of: Callable[[Line], Key]) -> dict[Key, Resources]:
    sums: dict[Key, Resources] = {}
    for line in lines:
        key = key_of(line)
        before = sums.get(key, (Decimal(0),) * len(line.resources))
        sums[key] = tuple(one + other for one, other in zip(before, line.resources, strict=True))
    return {key: resources for key, resources in sums.items() if any(resources)}
