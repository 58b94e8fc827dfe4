"""A naive oracle of the stream: reads a log once, one record after the other, and adds up at the end.

It shares nothing with the product: no decoder, no plan, no SQL. `compare` holds a database against it, every row that a
reader sees and the books about the stream itself.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from ingest.domain.registers import Dimension, Kind, Register, Resource
from tests.support.pipeline import Pipeline

Object: TypeAlias = dict[str, Any]
Cell: TypeAlias = tuple[Any, ...]
Sums: TypeAlias = dict[Cell, tuple[Decimal, ...]]

STOCK = Register(
    "stock",
    Kind.BALANCE,
    (Dimension("product", "int"), Dimension("lot", "text")),
    (Resource("quantity", "numeric(18,3)"), Resource("amount", "bigint")),
    time_zone="Europe/London",
    subtotals=("lot", "product"),
)
FLOWS = Register(
    "flows", Kind.TURNOVER, (Dimension("product", "int"),), (Resource("quantity", "int"),), time_zone="America/New_York"
)
REGISTERS = {register.name: register for register in (STOCK, FLOWS)}


@dataclass(slots=True)
class Recorder:
    """What a recorder has said, as its events were applied."""

    contents: dict[str, object] = field(default_factory=dict)
    revision: int | None = None
    lines: list[tuple[datetime, Object]] = field(default_factory=list)

    def hear(self, event: Object, register: Register) -> str:
        """What becomes of an event that makes sense by itself."""
        revision = event.get("revision")
        lines = [
            (datetime.fromisoformat(line.get("period") or event["period"]), line) for line in event.get("movements", [])
        ]
        # What it means, not how it is written: a line's own period may be the document's, in another offset.
        values = [(at, _values(register, line)) for at, line in lines]
        content = (event["type"], revision, values)
        if event["id"] in self.contents:
            return "duplicate" if self.contents[event["id"]] == content else "id_conflict"
        if revision is not None and self.revision is not None and revision <= self.revision:
            if revision < self.revision:
                return "stale"
            return "duplicate" if content in self.contents.values() else "revision_conflict"
        self.contents[event["id"]] = content
        self.revision = self.revision if revision is None else revision
        if event["type"] != "movement":
            self.lines.clear()
        self.lines += lines
        return "applied"


@dataclass(slots=True)
class Oracle:
    """Reads a log once, one record after the other, and adds up at the end."""

    recorders: dict[tuple[str, str], Recorder] = field(default_factory=lambda: defaultdict(Recorder))
    outcomes: Counter[str] = field(default_factory=Counter)
    # Ids of events that only the database can refuse, such as one with which a sum outgrows its type.
    overflowing: frozenset[str] = frozenset()
    registers: Mapping[str, Register] = field(default_factory=lambda: REGISTERS)

    def read(self, value: bytes) -> None:
        try:
            event = json.loads(value)
        except ValueError:
            self.outcomes["not_json"] += 1
        else:
            self.outcomes[self._refusal(event) or self._hear(event)] += 1

    def movements(self, register: str) -> Counter[Cell]:
        """Recorder, period, dimensions and resources of every line."""
        return Counter(
            (recorder, period, *_values(self.registers[register], line))
            for (owner, recorder), heard in self.recorders.items()
            if owner == register
            for period, line in heard.lines
        )

    def sums(self, register: str, start: Callable[[date], date | None]) -> Sums:
        """Sums by cell and period that did not come to nothing; `start` names a day's period, None for all time."""
        declared = self.registers[register]
        width = len(declared.dimensions)
        sums: Sums = {}
        for _, period, *values in self.movements(register).elements():
            day = start(period.astimezone(ZoneInfo(declared.time_zone)).date())
            key = (*(() if day is None else (day,)), *values[:width])
            before = sums.get(key, (Decimal(0),) * len(declared.resources))
            sums[key] = tuple(a + b for a, b in zip(before, values[width:], strict=True))
        return {key: value for key, value in sums.items() if any(value)}

    def _hear(self, event: Object) -> str:
        register, recorder = event["register"], event["recorder"]
        return self.recorders[register, recorder].hear(event, self.registers[register])

    def _refusal(self, event: Object) -> str | None:
        """The reason why an event makes no sense: one for each blunder above, in the decoder's order."""
        if not isinstance(event["id"], str):
            return "wrong_type"
        if event["register"] not in self.registers:
            return "unknown_register"
        if event["type"] == "unpost":
            return "unexpected_key" if "movements" in event else None
        if event["movements"] == [{"colour": "red"}]:
            return "unknown_column"
        if event["id"] in self.overflowing:
            return "refused_by_database"
        return "no_movements" if event["type"] == "movement" and not event["movements"] else None


def _values(register: Register, line: Object) -> Cell:
    dimensions = tuple(line[column.name] for column in register.dimensions)
    return (*dimensions, *(Decimal(line[column.name]) for column in register.resources))


def compare(pipeline: Pipeline, oracle: Oracle, forgotten: Mapping[str, int] | None = None) -> None:
    """Every table that a reader sees, and the books about the stream itself; dead letters may have been forgotten."""
    pipeline.check()
    counted = pipeline.rows("SELECT sum(applied), sum(duplicates), sum(stale), sum(dead_letters) FROM _batches")
    refused = {reason: n for reason, n in oracle.outcomes.items() if reason not in {"applied", "duplicate", "stale"}}
    expected = (*(oracle.outcomes[kind] for kind in ("applied", "duplicate", "stale")), sum(refused.values()))
    assert tuple(int(n or 0) for n in counted[0]) == expected
    kept = Counter(refused) - Counter(forgotten or {})
    assert dict(pipeline.rows("SELECT reason, count(*) FROM _dead_letters GROUP BY reason")) == kept
    starts: Mapping[str, Callable[[date], date | None]] = {
        "totals_day": lambda day: day,
        "totals_month": lambda day: day.replace(day=1),
        "totals_year": lambda day: day.replace(month=1, day=1),
    }
    for name, register in REGISTERS.items():
        assert Counter(_selected(pipeline, register, f"{name}_movements", "recorder", "period")) == (
            oracle.movements(name)
        )
        for table, start in starts.items():
            assert _sums(pipeline, register, f"{name}_{table}", "period") == oracle.sums(name, start)
        if register.kind is Kind.BALANCE:
            assert _sums(pipeline, register, f"{name}_balance_cache") == oracle.sums(name, lambda _: None)


def _selected(pipeline: Pipeline, register: Register, table: str, *first: str) -> list[Cell]:
    columns = [*first, *(c.name for c in register.dimensions), *(c.name for c in register.resources)]
    return [tuple(row) for row in pipeline.rows(f"SELECT {', '.join(columns)} FROM {table}")]  # noqa: S608


def _sums(pipeline: Pipeline, register: Register, table: str, *first: str) -> Sums:
    rows = _selected(pipeline, register, table, *first)
    width = len(first) + len(register.dimensions)
    return {row[:width]: row[width:] for row in rows if any(row[width:])}
