"""A small coffee shop, made up: three warehouses, a dozen products, six weeks of work as events for two registers.

`write_history` returns the events in the order in which they are to be produced, and the shop's books, which know what
must come out. The same seed and size give the same bytes, on every machine. The shop is not a good citizen, on purpose:
it sends events twice and late, corrects and cancels what it said weeks ago, and a few of its events are wrong.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import TypeAlias

from ingest.demo.blunders import BLUNDERS, Blunder, EventObject, encode
from ingest.demo.books import TIME_ZONE, Books, Dimensions, Line

INVENTORY = "inventory"
SALES = "sales"

COLUMNS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    INVENTORY: (("warehouse", "product", "lot"), ("quantity", "amount")),
    SALES: (("product", "channel"), ("quantity", "revenue")),
}
"""Dimensions and resources of the two registers, as schema/registers/demo/shop.toml declares them."""

WAREHOUSES = ("bristol", "leeds", "london")
CHANNELS = ("shop", "shop", "web")

# Around the last Sunday of March, so that one of the shop's days has 23 hours.
OPENING = datetime(2026, 3, 2, 8, 0, tzinfo=TIME_ZONE).astimezone(UTC)
BUSINESS = timedelta(weeks=6)
EVENTS_PER_HAPPENING = 1.8

REMEMBERED = 400
"""How many of the latest events may be sent a second time."""

RECENT = 0.6
"""The share of corrections and cancellations that concern one of the last sales."""

CENT = Decimal("0.01")
PIECE = Decimal("1.000")
QUARTER_KILO = Decimal("0.250")

Cell: TypeAlias = tuple[str, str, str | None]
"""Warehouse, product and lot."""


@dataclass(frozen=True, slots=True)
class Product:
    """Something to sell: cost and price of 1, and the smallest quantity that is sold."""

    name: str
    cost: Decimal
    price: Decimal
    unit: Decimal = PIECE
    has_lots: bool = True


PRODUCTS = {
    product.name: product
    for product in (
        Product("espresso-beans", Decimal("11.80"), Decimal("24.00"), QUARTER_KILO),
        Product("filter-beans", Decimal("12.44"), Decimal("26.00"), QUARTER_KILO),
        Product("decaf-beans", Decimal("13.12"), Decimal("27.60"), QUARTER_KILO),
        Product("assam-tea", Decimal("16.20"), Decimal("38.00"), QUARTER_KILO),
        Product("green-tea", Decimal("21.76"), Decimal("49.00"), QUARTER_KILO),
        Product("oat-milk", Decimal("1.15"), Decimal("2.40")),
        Product("biscuits", Decimal("1.62"), Decimal("3.75")),
        Product("chocolate", Decimal("1.98"), Decimal("4.20")),
        Product("moka-pot", Decimal("14.30"), Decimal("29.90"), has_lots=False),
        Product("hand-grinder", Decimal("31.00"), Decimal("64.50"), has_lots=False),
        Product("mug", Decimal("3.40"), Decimal("8.90"), has_lots=False),
        Product("filter-papers", Decimal("0.95"), Decimal("2.80"), has_lots=False),
    )
}


@dataclass(frozen=True, slots=True)
class ShopEvent:
    """One record for the topic."""

    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class History:
    """All that the shop sends, and what it has to come to."""

    events: tuple[ShopEvent, ...]
    books: Books


def write_history(seed: int, size: int) -> History:
    """Make up about `size` events: never fewer, and only a few more."""
    return Shop(seed, size).work()


class Shop:
    """The shop at work; what can happen in it is in `work`, and below it in that order."""

    def __init__(self, seed: int, size: int) -> None:
        self._random = Random(seed)
        self._size = size
        self._now = OPENING
        self._books = Books()
        self._events: list[ShopEvent] = []
        self._correct: list[ShopEvent] = []
        self._superseded: list[ShopEvent] = []
        self._latest: dict[tuple[str, str], tuple[int, ShopEvent]] = {}
        self._sales: list[str] = []
        self._receipts: list[str] = []
        self._stock: dict[Dimensions, Decimal] = {}
        self._lots: dict[tuple[str, str], list[Cell]] = {}
        self._documents = 1000

    def work(self) -> History:
        """Fill the shelves, then do business until there are enough events."""
        for warehouse in WAREHOUSES:
            self._deliver(warehouse, PRODUCTS.values())
        happenings: Mapping[Callable[[], None], int] = {
            self._sell: 62,
            self._receive: 6,
            self._receive_the_rest: 2,
            self._transfer: 5,
            self._correct_a_sale: 6,
            self._cancel_a_sale: 3,
            self._take_stock: 5,
            self._send_again: 8,
            self._send_late: 3,
        }
        step = BUSINESS / (self._size / EVENTS_PER_HAPPENING)
        blunders = list(BLUNDERS)
        while len(self._events) < self._size or blunders:
            self._now = (self._now + step * self._random.uniform(0.5, 1.5)).replace(microsecond=0)
            if len(self._events) * len(BLUNDERS) >= self._size * (len(BLUNDERS) - len(blunders) + 1):
                self._blunder(blunders.pop(0))
            [happen] = self._random.choices(tuple(happenings), tuple(happenings.values()))
            happen()
        return History(tuple(self._events), self._books)

    def _sell(self) -> None:
        warehouse = self._random.choice(WAREHOUSES)
        channel = self._random.choice(CHANNELS)
        taken: list[Line] = []
        sold: list[Line] = []
        for product in self._some_products(self._random.choice((1, 1, 1, 2, 2, 3))):
            quantity = product.unit * self._random.randint(1, 4)
            taken.append(_stock_line(self._now, self._find(warehouse, product, quantity), -quantity))
            sold.append(_sales_line(self._now, product, channel, quantity))
        sale = self._new_document("sale")
        self._sales.append(sale)
        self._tell("movement", INVENTORY, sale, taken)
        self._tell("movement", SALES, sale, sold)

    def _receive(self) -> None:
        self._deliver(self._random.choice(WAREHOUSES), self._some_products(self._random.randint(2, 4)))

    def _receive_the_rest(self) -> None:
        """Add to a delivery that had come incomplete."""
        lines = [self._delivery_line(self._random.choice(WAREHOUSES), *self._some_products(1))]
        self._tell("movement", INVENTORY, self._random.choice(self._receipts[-20:]), lines)

    def _transfer(self) -> None:
        cell = self._any_cell()
        quantity = PRODUCTS[cell[1]].unit * self._random.randint(2, 8)
        if self._stock.get(cell, 0) >= quantity:
            target = self._random.choice([warehouse for warehouse in WAREHOUSES if warehouse != cell[0]])
            arrived = self._cell(target, cell[1], cell[2])
            lines = [_stock_line(self._now, cell, -quantity), _stock_line(self._now, arrived, quantity)]
            self._tell("movement", INVENTORY, self._new_document("transfer"), lines)

    def _correct_a_sale(self) -> None:
        """Tell both registers what the sale should have said, at the time of the sale: that can be weeks ago."""
        sale = self._any_sale()
        if sale is not None:
            taken, *others_taken = self._books.read(INVENTORY, sale)
            sold, *others_sold = self._books.read(SALES, sale)
            product, channel = PRODUCTS[str(sold.dimensions[0])], str(sold.dimensions[1])
            at_most = self._stock[taken.dimensions] - taken.resources[0]
            quantity = product.unit * self._random.randint(1, min(6, int(at_most / product.unit)))
            taken = _stock_line(taken.period, taken.dimensions, -quantity)
            sold = _sales_line(sold.period, product, channel, quantity)
            self._tell("repost", INVENTORY, sale, [taken, *others_taken])
            self._tell("repost", SALES, sale, [sold, *others_sold])

    def _cancel_a_sale(self) -> None:
        sale = self._any_sale()
        if sale is not None:
            self._tell("unpost", INVENTORY, sale, [])
            self._tell("unpost", SALES, sale, [])

    def _take_stock(self) -> None:
        """Find more or less on the shelves than there should be, and date it back to when it may have happened."""
        lines: list[Line] = []
        for _ in range(self._random.randint(1, 3)):
            cell = self._any_cell()
            unit = PRODUCTS[cell[1]].unit
            quantity = unit * self._random.choice((-3, -2, -1, -1, 1, 2))
            already = sum((line.resources[0] for line in lines if line.dimensions == cell), Decimal(0))
            found = max(quantity, -self._stock.get(cell, Decimal(0)) - already) or unit
            period = max(OPENING, self._now - timedelta(days=self._random.randint(1, 35)))
            lines.append(_stock_line(period, cell, found))
        self._tell("movement", INVENTORY, self._new_document("stocktake"), lines)

    def _send_again(self) -> None:
        """Repeat an event, byte for byte, as a producer does that has not heard of its delivery."""
        self._events.append(self._random.choice(self._correct[-REMEMBERED:]))
        self._books.duplicates += 1

    def _send_late(self) -> None:
        """Export again, under a new id, what a document said before its last change."""
        if self._superseded:
            event = json.loads(self._random.choice(self._superseded).value)
            self._send(event | {"id": f"{event['id']}/export-{len(self._events)}"})
            self._books.stale += 1

    def _blunder(self, blunder: Blunder) -> None:
        receipt = self._new_document("receipt")
        lines = [self._delivery_line(self._random.choice(WAREHOUSES), *self._some_products(1))]
        event = _event("movement", INVENTORY, receipt, 1, lines)
        if blunder.contradicts:
            self._tell("movement", INVENTORY, receipt, lines)
        self._events.append(ShopEvent(receipt.encode(), blunder.spoil(event)))
        self._books.refused[blunder.reason] += 1

    def _deliver(self, warehouse: str, products: Iterable[Product]) -> None:
        receipt = self._new_document("receipt")
        self._receipts.append(receipt)
        lines = [self._delivery_line(warehouse, product) for product in products]
        self._tell("movement", INVENTORY, receipt, lines)

    def _delivery_line(self, warehouse: str, product: Product) -> Line:
        lot = f"W{self._now.astimezone(TIME_ZONE).isocalendar().week:02d}" if product.has_lots else None
        cell = self._cell(warehouse, product.name, lot)
        return _stock_line(self._now, cell, product.unit * self._random.randint(6, 24))

    def _some_products(self, count: int) -> list[Product]:
        return self._random.sample(tuple(PRODUCTS.values()), count)

    def _find(self, warehouse: str, product: Product, quantity: Decimal) -> Cell:
        """Say where the oldest stock is that suffices; where there is none, a delivery comes."""
        cells = self._lots[warehouse, product.name]
        for cell in cells:
            if self._stock.get(cell, 0) >= quantity:
                return cell
        self._deliver(warehouse, [product])
        return cells[-1]

    def _cell(self, warehouse: str, product: str, lot: str | None) -> Cell:
        cell = (warehouse, product, lot)
        cells = self._lots.setdefault((warehouse, product), [])
        if cell not in cells:
            cells.append(cell)
        return cell

    def _any_cell(self) -> Cell:
        return self._random.choice(self._random.choice(tuple(self._lots.values())))

    def _any_sale(self) -> str | None:
        """Pick a sale, recent or not; None where the one picked is cancelled, or nothing was sold yet."""
        among = self._sales[-50:] if self._random.random() < RECENT else self._sales
        sale = self._random.choice(among) if among else ""
        return sale if self._books.read(SALES, sale) else None

    def _new_document(self, kind: str) -> str:
        self._documents += 1
        return f"{kind}:{self._documents}"

    def _tell(self, kind: str, register: str, document: str, lines: Sequence[Line]) -> None:
        """Send a correct event, and enter in the books what the document says from now on."""
        before = self._books.read(register, document)
        revision, superseded = self._latest.get((register, document), (0, None))
        event = self._send(_event(kind, register, document, revision + 1, lines))
        self._correct.append(event)
        self._latest[register, document] = (revision + 1, event)
        if superseded:
            self._superseded.append(superseded)
        after = (*before, *lines) if kind == "movement" else tuple(lines)
        self._books.write(register, document, after)
        if register == INVENTORY:
            self._put(before, -1)
            self._put(after, 1)

    def _put(self, lines: Iterable[Line], sign: int) -> None:
        for line in lines:
            cell = line.dimensions
            self._stock[cell] = self._stock.get(cell, Decimal(0)) + sign * line.resources[0]

    def _send(self, event: EventObject) -> ShopEvent:
        sent = ShopEvent(event["recorder"].encode(), encode(event))
        self._events.append(sent)
        return sent


def _stock_line(period: datetime, cell: Dimensions, quantity: Decimal) -> Line:
    amount = (PRODUCTS[str(cell[1])].cost * quantity).quantize(CENT)
    return Line(period, cell, (quantity, amount))


def _sales_line(period: datetime, product: Product, channel: str, quantity: Decimal) -> Line:
    return Line(period, (product.name, channel), (quantity, (product.price * quantity).quantize(CENT)))


def _event(kind: str, register: str, document: str, revision: int, lines: Sequence[Line]) -> EventObject:
    """Say it as the contract wants it: one period for all lines where they have the same."""
    event: EventObject = {
        "id": f"{document}/{register}/{revision}",
        "type": kind,
        "register": register,
        "recorder": document,
        "revision": revision,
    }
    if kind == "unpost":
        return event
    movements = [_movement(register, line) for line in lines]
    if len({line.period for line in lines}) == 1:
        return event | {"period": _time(register, lines[0].period), "movements": movements}
    for movement, line in zip(movements, lines, strict=True):
        movement["period"] = _time(register, line.period)
    return event | {"movements": movements}


def _movement(register: str, line: Line) -> EventObject:
    dimensions, resources = COLUMNS[register]
    numbers = (_number(register, value) for value in line.resources)
    return dict(zip(dimensions, line.dimensions, strict=True)) | dict(zip(resources, numbers, strict=True))


def _number(register: str, value: Decimal) -> str | int:
    """The warehouses write decimals as text; the tills write whole numbers as numbers."""
    return int(value) if register == SALES and value == int(value) else str(value)


def _time(register: str, period: datetime) -> str:
    """The warehouses write UTC, the tills the time on the shop's clock."""
    return period.astimezone(TIME_ZONE).isoformat() if register == SALES else f"{period:%Y-%m-%dT%H:%M:%SZ}"
