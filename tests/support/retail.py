"""The Online Retail data set as events, and what has to come out, worked out from the file alone.

The folder with the file is in TALLYSTREAM_TEST_DATA; it is no part of the project. Sums here are whole numbers
(thousandths), days are the text of the file: nothing of the product, nor of PostgreSQL, takes part.
"""

import csv
import json
import lzma
import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TypeAlias
from zoneinfo import ZoneInfo

import pytest

VARIABLE = "TALLYSTREAM_TEST_DATA"
FILE = "online-retail.csv.xz"
LONDON = ZoneInfo("Europe/London")

REGISTER = """
[register.sales]
kind = "balance"
time_zone = "Europe/London"

[register.sales.dimensions]
stock_code = "text"
country = "text"
customer = "int"

[register.sales.resources]
quantity = "int"
amount = "numeric(18,3)"
"""

Cell: TypeAlias = tuple[str, str, int | None]
"""Stock code, country, customer."""

Sums: TypeAlias = dict[tuple[str, Cell], tuple[int, int]]
"""Quantity and thousandths of amount by period and cell; the period is text, empty for all time."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of an invoice; `at` is the shop's local time as the file has it."""

    cell: Cell
    at: str
    quantity: int
    thousandths: int

    def movement(self) -> dict[str, object]:
        """The line as a movement of an event."""
        stock_code, country, customer = self.cell
        sign = "-" if self.thousandths < 0 else ""
        amount = f"{sign}{abs(self.thousandths) // 1000}.{abs(self.thousandths) % 1000:03}"
        return {
            "period": datetime.fromisoformat(self.at).replace(tzinfo=LONDON).isoformat(),
            "stock_code": stock_code,
            "country": country,
            "customer": customer,
            "quantity": self.quantity,
            "amount": amount,
        }


@dataclass(slots=True)
class Shop:
    """What each invoice says now. Knows nothing of events, ids and duplicates."""

    invoices: dict[str, list[Line]] = field(default_factory=lambda: defaultdict(list))

    def sums(self, length: int) -> Sums:
        """Sums by cell and the first so many characters of the local time: 10 a day, 7 a month, 4 a year, 0 all."""
        sums: dict[tuple[str, Cell], list[int]] = {}
        for lines in self.invoices.values():
            for line in lines:
                found = sums.setdefault((line.at[:length], line.cell), [0, 0])
                found[0] += line.quantity
                found[1] += line.thousandths
        return {key: (quantity, amount) for key, (quantity, amount) in sums.items() if quantity or amount}

    def cells(self) -> int:
        """How many cells were ever touched."""
        return len({line.cell for lines in self.invoices.values() for line in lines})


def read_shop(folder: Path) -> Shop:
    """Every line of the file."""
    shop = Shop()
    with lzma.open(folder / FILE, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            cell = (row["StockCode"], row["Country"], int(row["CustomerID"]) if row["CustomerID"] else None)
            quantity = int(row["Quantity"])
            line = Line(cell, row["InvoiceDate"], quantity, quantity * _thousandths(row["UnitPrice"]))
            shop.invoices[row["InvoiceNo"]].append(line)
    return shop


def first_stream(shop: Shop) -> list[bytes]:
    """Every invoice as it was written."""
    return [_event("movement", number, 1, lines) for number, lines in shop.invoices.items()]


def second_stream(shop: Shop) -> list[bytes]:
    """Every 50th invoice with other lines, every 75th cancelled; the shop says so from now on."""
    events = []
    for index, (number, lines) in enumerate(shop.invoices.items(), 1):
        if index % 50 == 0:
            changed = [replace(line, quantity=line.quantity + 1, thousandths=line.thousandths * 2) for line in lines]
            shop.invoices[number] = changed[1:] or changed
            events.append(_event("repost", number, 2, shop.invoices[number]))
        if index % 75 == 0:
            shop.invoices[number] = []
            events.append(_event("unpost", number, 3, ()))
    return events


def same(found: Iterable[tuple[object, ...]], expected: Sums) -> str:
    """Nothing when the rows (period, cell, quantity, amount) are these sums; else the first few that are not."""
    rows = _by_key(found)
    wrong = [(key, rows.get(key), expected.get(key)) for key in rows.keys() | expected.keys()]
    wrong = [(key, is_there, should_be) for key, is_there, should_be in wrong if is_there != should_be]
    return f"{len(wrong)} differ: {wrong[:5]}" if wrong else ""


def _by_key(rows: Iterable[tuple[object, ...]]) -> Mapping[tuple[str, Cell], tuple[int, int]]:
    found = {}
    for period, stock_code, country, customer, quantity, amount in rows:
        found[period, (stock_code, country, customer)] = (quantity, amount)
    return found  # type: ignore[return-value]  # the test's query decides the types


def _event(kind: str, number: str, revision: int, lines: Sequence[Line]) -> bytes:
    event: dict[str, object] = {
        "id": f"{number}/{revision}",
        "type": kind,
        "register": "sales",
        "recorder": f"invoice:{number}",
        "revision": revision,
    }
    if kind != "unpost":
        movements = [line.movement() for line in lines]
        event |= {"period": movements[0]["period"], "movements": movements}
    return json.dumps(event).encode()


def _thousandths(price: str) -> int:
    whole, _, decimals = price.lstrip("-").partition(".")
    return int(whole + decimals.ljust(3, "0")) * (-1 if price.startswith("-") else 1)


@pytest.fixture
def retail() -> Shop:
    """The shop, where its data are."""
    folder = os.environ.get(VARIABLE)
    if not folder:
        pytest.skip(f"the Online Retail data are not here: {VARIABLE} does not name their folder")
    return read_shop(Path(folder))
