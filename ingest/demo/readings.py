"""What the registers say: the demo reads them as an application would, from views and functions of the product."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, TypeAlias

from ingest.demo.books import Dimensions, Resources
from ingest.postgres.connections import Database

Balances: TypeAlias = Mapping[Dimensions, Resources]
Turnovers: TypeAlias = Mapping[tuple[date, Dimensions], Resources]


@dataclass(frozen=True, slots=True)
class Readings:
    """Reads anew with every call."""

    database: Database

    def balances(self) -> Balances:
        """Every balance of `inventory`."""
        return {tuple(cell): (quantity, amount) for *cell, quantity, amount in self._rows("demo_balances")}

    def balances_at(self, day: date) -> Balances:
        """Every balance of `inventory` at the end of a day."""
        rows = self._rows("demo_balances_at", at_date=day)
        return {tuple(cell): (quantity, amount) for *cell, quantity, amount in rows}

    def turnovers(self) -> Turnovers:
        """Every cell of `sales`, day by day."""
        rows = self._rows("demo_turnovers")
        return {(day, tuple(cell)): (quantity, revenue) for day, *cell, quantity, revenue in rows}

    def turnover_by_product(self, from_date: date | None, to_date: date | None) -> Mapping[str, Resources]:
        """What was sold between two days, both included."""
        rows = self._rows("demo_turnover_by_product", from_date=from_date, to_date=to_date)
        return {product: (quantity, revenue) for product, quantity, revenue in rows}

    def movements(self) -> tuple[int, int]:
        """The number of movements of `inventory` and `sales`."""
        [(inventory, sales)] = self._rows("demo_movements")
        return inventory, sales

    def _rows(self, statement: str, **parameters: date | None) -> list[tuple[Any, ...]]:
        with self.database.connect() as connection:
            return connection.execute(self.database.compose(statement), parameters).fetchall()


def by_product(balances: Balances) -> Mapping[str, Resources]:
    """Add balances up over warehouses and lots."""
    sums: dict[str, Resources] = {}
    for (_, product, _), (quantity, amount) in sorted(balances.items(), key=str):
        before = sums.get(str(product), (Decimal(0), Decimal(0)))
        sums[str(product)] = (before[0] + quantity, before[1] + amount)
    return sums
