"""What is printed when all events have been dealt with: balances, turnovers, dead letters, and the verdict."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from ingest.demo.books import Resources
from ingest.demo.readings import Balances, Readings, by_product
from ingest.demo.shop import WAREHOUSES
from ingest.demo.verdict import Check

MARCH = (date(2026, 3, 1), date(2026, 3, 31))
APRIL = (date(2026, 4, 1), date(2026, 4, 30))
EVER = (None, None)

NOTHING: Resources = (Decimal(0), Decimal(0))
MOST_PROBLEMS_SHOWN = 5


def print_balances(console: Console, balances: Balances) -> None:
    """Print what is in stock, one line per product."""
    _heading(console, "Balances", f"inventory_balances: {len(balances)} cells, added up by product")
    table = _table("product", *WAREHOUSES, "quantity", "amount")
    everywhere = by_product(balances)
    parts = [by_product({cell: sums for cell, sums in balances.items() if cell[0] == w}) for w in WAREHOUSES]
    for product, (quantity, amount) in everywhere.items():
        here = (f"{part.get(product, NOTHING)[0]:,.3f}" for part in parts)
        table.add_row(product, *here, f"{quantity:,.3f}", f"{amount:,.2f}")
    _close(console, table, {len(WAREHOUSES) + 2: everywhere})


def print_turnovers(console: Console, readings: Readings) -> None:
    """Print what was sold, one line per product."""
    _heading(console, "Turnover by product", "sales_turnover_between(from_date, to_date)")
    ever, march, april = (readings.turnover_by_product(*days) for days in (EVER, MARCH, APRIL))
    table = _table("product", "quantity", "revenue", "in March", "in April")
    for product, (quantity, revenue) in ever.items():
        monthly = (f"{month.get(product, NOTHING)[1]:,.2f}" for month in (march, april))
        table.add_row(product, f"{quantity:,.3f}", f"{revenue:,.2f}", *monthly)
    _close(console, table, {2: ever, 3: march, 4: april})


def print_dead_letters(console: Console, letters: Sequence[Mapping[str, object]]) -> None:
    """Print what was refused."""
    _heading(console, "Dead letters", f"{len(letters)} events were refused; their neighbours were applied")
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("reason", "recorder"):
        table.add_column(name, no_wrap=True)
    table.add_column("what was wrong")
    for letter in letters:
        place = f"{letter['path']}: " if letter["path"] else ""
        values = (str(letter["reason"]), str(letter["recorder"] or "-"), f"{place}{letter['detail']}")
        table.add_row(*map(escape, values))
    console.print(Padding(table, (0, 0, 0, 2)))


def print_verdict(console: Console, checks: Iterable[Check]) -> bool:
    """Print each check with what is wrong; says whether nothing is."""
    _heading(console, "Verify", "registers against their own movements, and against the shop's books")
    right = True
    for check in checks:
        word = "[red]WRONG[/]" if check.problems else "[green]ok[/]"
        console.print(f"  {word}  {escape(check.claim)}", highlight=False)
        for problem in check.problems[:MOST_PROBLEMS_SHOWN]:
            console.print(f"         {escape(problem)}", highlight=False)
        right = right and not check.problems
    return right


def _heading(console: Console, title: str, source: str) -> None:
    console.print(f"\n[bold]{title}[/]  [dim]{escape(source)}[/]", highlight=False)


def _table(first: str, *numbers: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", footer_style="bold")
    table.add_column(first, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _close(console: Console, table: Table, sums: Mapping[int, Mapping[str, Resources]]) -> None:
    """Print the table with the sums of money below these columns."""
    table.show_footer = True
    for column, resources in sums.items():
        table.columns[column].footer = f"{sum(money for _, money in resources.values()):,.2f}"
    console.print(Padding(table, (0, 0, 0, 2)), highlight=False)
