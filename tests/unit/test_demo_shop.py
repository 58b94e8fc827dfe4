"""The demonstration's shop: its books against a naive reading of the very bytes that it sends.

The demo promises that the registers equal the books, which is worth something only if the books are right.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo

import pytest

from ingest.demo.blunders import BLUNDERS
from ingest.demo.shop import COLUMNS, INVENTORY, PRODUCTS, SALES, WAREHOUSES, History, Shop, ShopEvent, write_history

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

Row: TypeAlias = tuple[datetime, tuple[str | None, ...], tuple[Decimal, ...]]

LONDON = ZoneInfo("Europe/London")
SCALES = {"quantity": 3, "amount": 2, "revenue": 2}


class RefusedError(Exception):
    """The naive reader would not take the event."""


@dataclass
class Recorder:
    """One document of one register, as the events alone tell it."""

    contents: dict[str, Any] = field(default_factory=dict)
    revision: int = 0
    rows: list[Row] = field(default_factory=list)


@dataclass
class Reader:
    """Applies events one by one, in the order of the list, in the most obvious way."""

    recorders: dict[tuple[str, str], Recorder] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)

    def read(self, sent: ShopEvent) -> None:
        try:
            self.outcomes[self.apply(sent)] += 1
        except (ValueError, KeyError, InvalidOperation, RefusedError):
            self.outcomes["refused"] += 1

    def apply(self, sent: ShopEvent) -> str:
        event = json.loads(sent.value, object_pairs_hook=strict_object)
        rows = [row(event, movement) for movement in event.get("movements", ())]
        demand(event["recorder"].encode() == sent.key)
        recorder = self.recorders.setdefault((event["register"], event["recorder"]), Recorder())
        if event["id"] in recorder.contents:
            demand(recorder.contents[event["id"]] == event)
            return "duplicate"
        demand(event["revision"] != recorder.revision)
        if event["revision"] < recorder.revision:
            return "stale"
        recorder.contents[event["id"]] = event
        recorder.revision = event["revision"]
        if event["type"] != "movement":
            recorder.rows.clear()
        recorder.rows.extend(rows)
        return "applied"

    def balances(self, register: str) -> dict[Any, tuple[Decimal, ...]]:
        return add_up((dimensions, resources) for _, dimensions, resources in self.rows(register))

    def turnovers(self, register: str) -> dict[Any, tuple[Decimal, ...]]:
        rows = self.rows(register)
        return add_up(((period.astimezone(LONDON).date(), cell), resources) for period, cell, resources in rows)

    def rows(self, register: str) -> list[Row]:
        return [row for (owner, _), recorder in self.recorders.items() if owner == register for row in recorder.rows]


def strict_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build a JSON object, unless it has a key twice."""
    demand(len({key for key, _ in pairs}) == len(pairs))
    return dict(pairs)


def demand(condition: object) -> None:
    """Refuse the event unless this holds."""
    if not condition:
        raise RefusedError


def row(event: dict[str, Any], movement: dict[str, Any]) -> Row:
    """Read one movement with its period."""
    dimensions, resources = COLUMNS[event["register"]]
    demand(set(movement) - {"period"} == {*dimensions, *resources})
    period = datetime.fromisoformat(movement.get("period") or event["period"])
    demand(period.tzinfo)
    demand(period.year < 2100)
    amounts = tuple(Decimal(movement[name]) for name in resources)
    for name, amount in zip(resources, amounts, strict=True):
        demand(amount == round(amount, SCALES[name]))
    return period, tuple(movement[name] for name in dimensions), amounts


def add_up(entries: "Iterable[tuple[Hashable, tuple[Decimal, ...]]]") -> dict[Any, tuple[Decimal, ...]]:
    """Sum the two resources per key, without the keys that come to nothing."""
    sums: dict[Hashable, list[Decimal]] = {}
    for key, amounts in entries:
        total = sums.setdefault(key, [Decimal(0), Decimal(0)])
        for index, amount in enumerate(amounts):
            total[index] += amount
    return {key: tuple(total) for key, total in sums.items() if any(total)}


@pytest.fixture(scope="module", params=[1, 2])
def history(request: pytest.FixtureRequest) -> History:
    """Two shops, each small enough to be read in a second."""
    return write_history(request.param, 4000)


@pytest.fixture(scope="module")
def reader(history: History) -> Reader:
    """All events of the shop, read naively."""
    reader = Reader()
    for event in history.events:
        reader.read(event)
    return reader


@pytest.mark.parametrize("register", [INVENTORY, SALES])
def test_books_equal_a_naive_reading_of_the_events(history: History, reader: Reader, register: str) -> None:
    """Every balance, every day's turnover and the number of movements are what the sent bytes say."""
    assert history.books.balances(register) == reader.balances(register)
    assert history.books.turnovers(register) == reader.turnovers(register)
    assert history.books.movements(register) == len(reader.rows(register))


def test_books_know_what_has_to_come_to_nothing(history: History, reader: Reader) -> None:
    """Duplicates, stale events and refusals are counted as a naive reading counts them, and there are some of each."""
    books = history.books
    assert reader.outcomes["duplicate"] == books.duplicates > 100
    assert reader.outcomes["stale"] == books.stale > 30
    assert reader.outcomes["refused"] == books.refused.total() == len(BLUNDERS)
    assert reader.outcomes["applied"] + books.duplicates + books.stale + books.refused.total() == len(history.events)


def test_every_blunder_has_a_reason_of_its_own(history: History) -> None:
    """The dead letters of the demo show each kind of mistake once."""
    assert history.books.refused == Counter(blunder.reason for blunder in BLUNDERS)
    assert len(history.books.refused) == len(BLUNDERS)


def test_same_seed_gives_same_bytes_and_another_seed_gives_others() -> None:
    """The demo shows the same numbers to everybody who does not ask for others."""
    assert write_history(7, 500).events == write_history(7, 500).events
    assert write_history(7, 500).events != write_history(8, 500).events


@pytest.mark.parametrize("size", [1, 100, 1000])
def test_there_are_as_many_events_as_asked_for_and_few_more(size: int) -> None:
    """Even the smallest history stocks the shelves and makes every blunder."""
    events = write_history(1, size).events
    assert size <= len(events) <= size + 60


def test_stock_is_never_less_than_nothing(history: History) -> None:
    """A shop cannot sell what it does not have, so that the printed balances look like a shop's."""
    assert all(quantity >= 0 for quantity, _ in history.books.balances(INVENTORY).values())


def test_everything_a_shop_does_is_in_the_events(history: History) -> None:
    """Receipts, sales, transfers, stocktakes, reposts, cancellations, lines with their own periods, null dimensions."""
    kinds: Counter[str] = Counter()
    for event in history.events:
        kinds[event.key.decode().split(":")[0]] += 1
        kinds["own period"] += b'},{"' in event.value and event.value.count(b'"period"') > 1
        kinds["null"] += b'"lot":null' in event.value
        for word in (b"movement", b"repost", b"unpost"):
            kinds[word.decode()] += b'"type":"' + word in event.value
    wanted = {"receipt", "sale", "transfer", "stocktake", "own period", "null", "movement", "repost", "unpost"}
    assert {kind for kind in wanted if kinds[kind] >= 20} == wanted


def test_shop_spans_six_weeks_and_a_day_of_23_hours(history: History, reader: Reader) -> None:
    """Totals of several months exist, and the day on which clocks change is one of them."""
    days = {day for day, _ in reader.turnovers(SALES)}
    assert date(2026, 3, 29) in days
    assert min(days) == date(2026, 3, 2)
    assert date(2026, 4, 8) < max(days) < date(2026, 4, 20)
    assert {product for _, (product, _) in reader.turnovers(SALES)} == set(PRODUCTS)
    assert {warehouse for warehouse, _, _ in history.books.balances(INVENTORY)} == set(WAREHOUSES)


def test_a_stocktake_never_finds_less_than_nothing() -> None:
    """One that meets a shelf twice counts what it found there the first time."""
    shop = Shop(1, 100)
    shop.work()
    for _ in range(3000):
        shop._take_stock()
        assert min(shop._stock.values()) >= 0
