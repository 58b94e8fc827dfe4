"""What is measured with: documents of many shapes, each as an event and as rows of the movements table.

Everything is made from a seed before the clock runs. Sums are whole numbers, so that what the database holds
afterwards can be compared exactly.
"""

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice

NAME = "bench"
SEED = 20260418
START = datetime(2026, 3, 1, 8, tzinfo=UTC)
ROWS_PER_BLOCK = 10_000


@dataclass(frozen=True, slots=True)
class Shape:
    """How the documents of a load look."""

    cells: int = 1000
    lines: int = 5
    days: int = 90
    days_of_most: int = 2
    """Nine of ten documents are of so many days; 0 spreads them evenly."""
    resource: str = "numeric(18,2)"
    lot: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Dimensions and resources, in order."""
        return ("warehouse", "product", *(("lot",) if self.lot else ()), "quantity", "amount")

    @property
    def is_whole(self) -> bool:
        """Whether resources are integers."""
        return self.resource == "bigint"

    def declaration(
        self, totals_period: str = "day", subtotals: Sequence[str] = (), *, high_write: bool = False
    ) -> str:
        """The register, as an operator declares it."""
        lot = 'lot = "text"\n' if self.lot else ""
        return (
            f'[register.{NAME}]\nkind = "balance"\ntotals_period = "{totals_period}"\nsubtotals = {list(subtotals)}\n'
            f"high_write = {str(high_write).lower()}\n"
            f'[register.{NAME}.dimensions]\nwarehouse = "int"\nproduct = "int"\n{lot}'
            f'[register.{NAME}.resources]\nquantity = "{self.resource}"\namount = "{self.resource}"\n'
        )


@dataclass(frozen=True, slots=True)
class Document:
    """A business document: texts, as they are written in an event and in COPY's format alike."""

    recorder: str
    period: str
    lines: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class Load:
    """Documents as events with their keys, as blocks of COPY text, and the sums of their resources in hundredths."""

    shape: Shape
    events: list[tuple[bytes, bytes]] = field(default_factory=list)
    blocks: list[tuple[int, bytes]] = field(default_factory=list)
    movements: int = 0
    sums: list[int] = field(default_factory=lambda: [0, 0])


def documents(shape: Shape, movements: int, seed: int = SEED, prefix: str = "r") -> Iterator[Document]:
    """Documents with that many movements altogether; the same seed makes the same ones."""
    rng = random.Random(seed)
    scale = 1 if shape.is_whole else 100
    for number in range(movements // shape.lines):
        most = shape.days_of_most and rng.random() < 0.9
        day = rng.randrange(shape.days_of_most) if most else rng.randrange(shape.days)
        period = (START + timedelta(days=day, seconds=rng.randrange(40_000))).isoformat()
        lines = tuple(_line(shape, rng, scale) for _ in range(shape.lines))
        yield Document(f"{prefix}{number:08}", period, lines)


def make_load(shape: Shape, movements: int, seed: int = SEED) -> Load:
    """A whole load, in memory."""
    load = Load(shape)
    rows: list[str] = []
    for number, document in enumerate(documents(shape, movements, seed)):
        load.events.append((document.recorder.encode(), event_of(shape, document)))
        for line in document.lines:
            rows.append(row_of(document, number, line))
            load.sums[0] += hundredths(line[-2])
            load.sums[1] += hundredths(line[-1])
    load.movements = len(rows)
    load.blocks = list(blocks_of(rows))
    return load


def event_of(shape: Shape, document: Document, kind: str = "movement", revision: int = 1) -> bytes:
    """The event that posts a document, as a producer writes it."""
    body: dict[str, object] = {
        "id": f"{document.recorder}/{revision}",
        "type": kind,
        "register": NAME,
        "recorder": document.recorder,
        "revision": revision,
    }
    if kind != "unpost":
        names = shape.columns
        body |= {
            "period": document.period,
            "movements": [dict(zip(names, _values(shape, line), strict=True)) for line in document.lines],
        }
    return json.dumps(body, separators=(",", ":")).encode()


def row_of(document: Document, offset: int, line: Sequence[str]) -> str:
    """A movement as the worker would copy it: with its event's position and batch."""
    values = "\t".join(line)
    return f"{document.recorder}\t{document.period}\t1\t{offset}\t{offset // 2000}\t{values}\n"


def blocks_of(rows: Iterable[str]) -> Iterator[tuple[int, bytes]]:
    """Rows as they go into one transaction each, with their number."""
    iterator = iter(rows)
    while block := list(islice(iterator, ROWS_PER_BLOCK)):
        yield len(block), "".join(block).encode()


def hundredths(text: str) -> int:
    """A decimal number with two places or none, exactly."""
    whole, _, decimals = text.lstrip("-").partition(".")
    return int(whole + decimals.ljust(2, "0")) * (-1 if text.startswith("-") else 1)


def _line(shape: Shape, rng: random.Random, scale: int) -> tuple[str, ...]:
    cell = rng.randrange(shape.cells)
    quantity, amount = rng.randrange(-99, 1000) or 1, rng.randrange(100, 1_000_000)
    dimensions = (str(cell % 10), str(cell // 10), *((f"L{cell % 7}",) if shape.lot else ()))
    if scale == 1:
        return (*dimensions, str(quantity), str(amount))
    return (*dimensions, f"{quantity}.00", f"{amount // 100}.{amount % 100:02}")


def _values(shape: Shape, line: Sequence[str]) -> list[object]:
    """Integers as JSON numbers, decimals as texts: nothing that a producer's floats could spoil."""
    first = [int(line[0]), int(line[1]), *line[2:-2]]
    return [*first, *(map(int, line[-2:]) if shape.is_whole else line[-2:])]
