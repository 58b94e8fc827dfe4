"""Random writing, high-write and subtotals on and off, folds in between, against sums that know nothing of those."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import TypeAlias

import pytest
from psycopg.types.json import Jsonb

from tests.support.postgres import Database
from tests.support.registers import Shop, element

Cell: TypeAlias = tuple[int, str | None]
Line: TypeAlias = tuple[date, Cell, Decimal]

FIRST_DAY = date(2025, 11, 20)
DAYS = 120
STEPS = 150
CELLS: tuple[Cell, ...] = tuple((warehouse, lot) for warehouse in (1, 2, 3) for lot in ("a", None))


@dataclass(slots=True)
class Oracle:
    """Every recorder's movements, and sums by going through all of them."""

    recorders: dict[str, list[Line]] = field(default_factory=dict)

    def balances(self, first: date = date.min, last: date = date.max) -> dict[Cell, Decimal]:
        """The sum of each cell over some days; cells that are zero are not in it."""
        sums: Counter[Cell] = Counter()
        for lines in self.recorders.values():
            for day, cell, quantity in lines:
                if first <= day <= last:
                    sums[cell] += quantity  # type: ignore[assignment]
        return {cell: Decimal(quantity) for cell, quantity in sums.items() if quantity}


@dataclass(slots=True)
class Bench:
    """A register and its oracle, changed alike."""

    shop: Shop
    rng: random.Random
    oracle: Oracle = field(default_factory=Oracle)

    def some_lines(self) -> list[Line]:
        """A few lines, more of them in few cells than elsewhere."""
        return [
            (
                FIRST_DAY + timedelta(self.rng.randrange(DAYS)),
                self.rng.choice(CELLS[: self.rng.choice([1, len(CELLS)])]),
                Decimal(self.rng.randrange(-500, 500)) / 4,
            )
            for _ in range(self.rng.choice([1, 2, 8]))
        ]

    def post(self) -> None:
        recorder, lines = f"r{self.rng.randrange(8)}", self.some_lines()
        self.oracle.recorders.setdefault(recorder, []).extend(lines)
        self.shop.post(elements(recorder, lines))

    def repost(self) -> None:
        recorder, lines = f"r{self.rng.randrange(8)}", self.some_lines()
        self.oracle.recorders[recorder] = lines
        self.shop.repost(recorder, elements(None, lines))

    def unpost(self) -> None:
        recorder = f"r{self.rng.randrange(8)}"
        assert self.shop.unpost(recorder) == len(self.oracle.recorders.pop(recorder, []))

    def delete_by_hand(self) -> None:
        """A plain DELETE of one cell's movements."""
        warehouse = self.rng.choice(CELLS)[0]
        self.shop.rows("DELETE FROM stock_movements WHERE warehouse = %s", warehouse)
        for recorder, lines in self.oracle.recorders.items():
            self.oracle.recorders[recorder] = [line for line in lines if line[1][0] != warehouse]

    def fold(self) -> None:
        """Some of what is pending, or all of it."""
        self.shop.ask("SELECT _force_delta_merge(p_batch_size => %s)", self.rng.choice([1, 3, 10, None]))

    def fold_from_the_middle(self) -> None:
        """As a compactor does that goes from cell to cell."""
        self.shop.rows("SELECT _merge_slice('stock', '0 s', 4, 0)")

    def switch(self) -> None:
        self.shop.rows("SELECT register_alter('stock', high_write => %s)", self.rng.random() < 0.6)

    def change_subtotals(self) -> None:
        kept = self.rng.choice([[], ["warehouse"], ["lot", "warehouse"]])
        self.shop.rows("SELECT register_alter('stock', subtotals => %s)", kept)

    def rebuild(self) -> None:
        """Which finds nothing to mend."""
        found = self.shop.rows("SELECT register_rebuild_totals('stock'), register_rebuild_cache('stock')")
        assert found == [(0, 0)]

    def check(self) -> None:
        """Balances now and at a day, and a turnover, are what the oracle says; and a verification finds nothing."""
        ends = sorted(FIRST_DAY + timedelta(self.rng.randrange(-3, DAYS + 3)) for _ in range(2))
        assert self.cells("stock_balances") == self.oracle.balances()
        assert self.cells("stock_balance_at(%s)", ends[0]) == self.oracle.balances(last=ends[0])
        assert self.cells("stock_turnover_between(%s, %s)", *ends) == self.oracle.balances(*ends)
        cell = self.rng.choice(CELLS)
        asked = self.shop.ask("SELECT stock_balance(%s)", {"warehouse": cell[0], "lot": cell[1]})
        assert Decimal(str(asked["quantity"])) == self.oracle.balances().get(cell, Decimal(0))
        self.check_values(ends)
        assert self.shop.problems() == []

    def check_values(self, ends: list[date]) -> None:
        """What is asked by the values of one dimension: one of them, each, and all."""
        for place, name in enumerate(("warehouse", "lot")):
            for value in {cell[place] for cell in CELLS}:
                cells = self.oracle.balances(last=ends[1]).items()
                expected = sum((quantity for cell, quantity in cells if cell[place] == value), Decimal(0))
                assert self.quantity("SELECT stock_balance(%s, %s)", {name: value}, ends[1]) == expected, (name, value)
            groups: Counter[object] = Counter()
            for cell, quantity in self.oracle.balances(*ends).items():
                groups[cell[place]] += quantity  # type: ignore[assignment]
            asked = self.shop.rows("SELECT t FROM stock_turnover(%s, %s, NULL, %s) AS t", *ends, [name])
            assert {group[name]: Decimal(str(group["quantity"])) for (group,) in asked} == {
                value: quantity for value, quantity in groups.items() if quantity
            }
        assert self.quantity("SELECT stock_balance()") == sum(self.oracle.balances().values(), Decimal(0))

    def quantity(self, statement: str, *parameters: object) -> Decimal:
        return Decimal(str(self.shop.ask(statement, *parameters)["quantity"]))

    def cells(self, source: str, *parameters: object) -> dict[Cell, Decimal]:
        rows = self.shop.rows(f"SELECT warehouse, lot, quantity FROM {source}", *parameters)  # noqa: S608 - ours
        return {(warehouse, lot): quantity for warehouse, lot, quantity in rows}


def elements(recorder: str | None, lines: list[Line]) -> list[dict[str, object]]:
    """The lines as register_post takes them, at some time of their day."""
    return [element(recorder, f"{day}T12:30:00Z", *cell, quantity=str(quantity)) for day, cell, quantity in lines]


@pytest.mark.parametrize("round_number", range(3))
def test_no_operation_in_any_order_breaks_a_sum(database: Database, rng: random.Random, round_number: int) -> None:
    """Writers of every kind, folds of any size, rebuilds and switches of the mode: each read is a sum of movements."""
    shop = Shop(database)
    grain, subtotals = (("day", ["lot"]), ("month", []), ("day", []))[round_number]
    shop.create("stock", high_write=round_number != 1, totals_period=grain, subtotals=Jsonb(subtotals))
    bench = Bench(shop, rng)
    common = [bench.post, bench.post, bench.repost, bench.unpost, bench.fold]
    rare = [bench.delete_by_hand, bench.switch, bench.rebuild, bench.fold_from_the_middle, bench.change_subtotals]
    for step in range(STEPS):
        rng.choice(common if rng.random() < 0.7 else rare)()
        if step % 3 == 0:
            bench.check()
    shop.ask("SELECT _force_delta_merge()")
    bench.check()
    shop.clear()
