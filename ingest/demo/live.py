"""What a person sees while the demo runs: a frame that is drawn again and again on a terminal, lines anywhere else.

Both views are given `Moment`s, and `Pace` works out how fast things go. They only show; the time comes with the moment.
"""

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

WINDOW_S = 2.0
"""Rates are averages over this long: shorter looks nervous, longer looks asleep."""

BARS = "▁▂▃▄▅▆▇█"
BARS_SHOWN = 24
BAR_EVERY_S = 0.5
ARROW_FOR_S = 1.0
WIDTH = 78


@dataclass(frozen=True, slots=True)
class Stock:
    """One line of the balances that are shown."""

    name: str
    quantity: Decimal
    amount: Decimal


@dataclass(frozen=True, slots=True)
class Moment:
    """Everything that is shown; times and counts are since the start."""

    at_s: float
    to_send: int
    sent: int = 0
    applied: int = 0
    duplicates: int = 0
    stale: int = 0
    dead_letters: int = 0
    movements: int = 0
    batches: int = 0
    batches_s: float = 0.0
    stock: tuple[Stock, ...] = ()

    @property
    def events(self) -> int:
        """All events that were dealt with, whatever became of them."""
        return self.applied + self.duplicates + self.stale + self.dead_letters

    @property
    def lag(self) -> int:
        """Events that were sent and are not dealt with yet."""
        return max(0, self.sent - self.events)


class View(Protocol):
    """Shows moments."""

    def show(self, moment: Moment) -> None:
        """Show this moment, or leave it out."""

    def finish(self) -> None:
        """Show the last moment, in case it was left out."""


@contextmanager
def open_view(console: Console, every_s: float) -> Iterator[View]:
    """Offer the view that suits the console; `every_s` is the pace of the lines where there is no terminal."""
    if not console.is_terminal or console.is_dumb_terminal:
        yield Lines(console, every_s)
        return
    with Live(console=console, auto_refresh=False) as live:
        yield Frame(live, BARS if console.encoding.startswith("utf") else "")


@dataclass(slots=True)
class Pace:
    """How fast things went lately."""

    batch_ms: float = 0.0
    """What a batch took, from its first statement to the end of its commit; the last known where there was none."""

    _moments: deque[Moment] = field(default_factory=deque)

    def add(self, moment: Moment) -> None:
        """Take a moment in, and forget those that are too old to matter."""
        self._moments.append(moment)
        while len(self._moments) > 1 and moment.at_s - self._moments[1].at_s >= WINDOW_S:
            self._moments.popleft()
        batches = moment.batches - self._moments[0].batches
        if batches:
            self.batch_ms = (moment.batches_s - self._moments[0].batches_s) * 1000 / batches

    @property
    def events_per_s(self) -> float:
        """Events that were dealt with, per second."""
        return self._per_s(lambda moment: moment.events)

    @property
    def movements_per_s(self) -> float:
        """Movements that were written, per second."""
        return self._per_s(lambda moment: moment.movements)

    def _per_s(self, count: Callable[[Moment], int]) -> float:
        first, last = self._moments[0], self._moments[-1]
        return (count(last) - count(first)) / max(last.at_s - first.at_s, 0.001)


class Lines:
    """One line now and then, as it suits a log."""

    def __init__(self, console: Console, every_s: float) -> None:
        self._console = console
        self._every_s = every_s
        self._pace = Pace()
        self._next_s = every_s
        self._unshown: Moment | None = None

    def show(self, moment: Moment) -> None:
        """Print a line when the last one is old enough."""
        self._pace.add(moment)
        self._unshown = moment
        if moment.at_s >= self._next_s:
            self._next_s = moment.at_s + self._every_s
            self._print(moment)

    def finish(self) -> None:
        """Print the last moment."""
        if self._unshown is not None:
            self._print(self._unshown)

    def _print(self, moment: Moment) -> None:
        self._unshown = None
        stock = moment.stock[0] if moment.stock else None
        parts = (
            f"{moment.at_s:5.1f} s",
            f"{moment.sent:,} of {moment.to_send:,} events sent",
            f"{self._pace.events_per_s:,.0f} events/s",
            f"{self._pace.movements_per_s:,.0f} movements/s",
            f"lag {moment.lag:,}",
            f"{moment.batches:,} batches of {self._pace.batch_ms:.0f} ms",
            *([f"{stock.name} {stock.quantity:,}"] if stock else []),
        )
        self._console.print("  ".join(parts), highlight=False, soft_wrap=True)


class Frame:
    """A frame on a terminal: progress, rates with their recent history, outcomes, and balances as they change."""

    def __init__(self, live: Live, bars: str) -> None:
        self._live = live
        self._bars = bars
        self._pace = Pace()
        self._histories: dict[str, deque[float]] = {}
        self._next_bar_s = 0.0
        self._changes: dict[str, _Change] = {}

    def show(self, moment: Moment) -> None:
        """Draw the frame anew."""
        self._pace.add(moment)
        self._remember(moment)
        content = Group(self._progress(moment), "", self._numbers(moment), "", self._stock(moment))
        title = f"[bold]{moment.at_s:.0f} s[/]"
        self._live.update(Panel(content, title=title, title_align="right", width=WIDTH, padding=(0, 1)), refresh=True)

    def finish(self) -> None:
        """Every moment was shown."""

    def _remember(self, moment: Moment) -> None:
        if moment.at_s >= self._next_bar_s:
            self._next_bar_s = moment.at_s + BAR_EVERY_S
            for name, rate in (("events", self._pace.events_per_s), ("movements", self._pace.movements_per_s)):
                self._histories.setdefault(name, deque(maxlen=BARS_SHOWN)).append(rate)
        for stock in moment.stock:
            known = self._changes.get(stock.name)
            if known is None or known.quantity != stock.quantity:
                rises = known is not None and stock.quantity > known.quantity
                since_s = -ARROW_FOR_S if known is None else moment.at_s
                self._changes[stock.name] = _Change(stock.quantity, since_s, rises)

    def _progress(self, moment: Moment) -> RenderableType:
        row = Table.grid(padding=(0, 1))
        row.add_row(
            "sent",
            ProgressBar(total=moment.to_send, completed=moment.sent, width=40),
            f"[bold]{moment.sent:,}[/] of {moment.to_send:,} events",
        )
        return row

    def _numbers(self, moment: Moment) -> RenderableType:
        grid = Table.grid(padding=(0, 1))
        for is_number, width in ((False, 11), (True, 8), (False, BARS_SHOWN + 3), (False, 12), (True, 10)):
            grid.add_column(justify="right" if is_number else "left", width=width)
        pace = self._pace
        rows = (
            ("events/s", f"{pace.events_per_s:,.0f}", self._history("events"), "applied", moment.applied),
            (
                "movements/s",
                f"{pace.movements_per_s:,.0f}",
                self._history("movements"),
                "duplicates",
                moment.duplicates,
            ),
            ("lag", f"{moment.lag:,}", "events", "stale", moment.stale),
            ("batches", f"{moment.batches:,}", f"{pace.batch_ms:.1f} ms each", "dead letters", moment.dead_letters),
        )
        for name, value, beside, outcome, count in rows:
            grid.add_row(name, f"[bold]{value}[/]", f"[cyan]{beside}[/]", outcome, f"[bold]{count:,}[/]")
        return grid

    def _stock(self, moment: Moment) -> RenderableType:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("balance of inventory", width=24)
        for name in ("quantity", "amount"):
            table.add_column(name, justify="right", width=14)
        table.add_column("", width=4)
        for stock in moment.stock:
            change = self._changes[stock.name]
            is_new = moment.at_s - change.since_s < ARROW_FOR_S
            style = ("green" if change.rises else "yellow") if is_new else ""
            arrow = ("+", "-") if not self._bars else ("▲", "▼")
            table.add_row(
                stock.name,
                Text(f"{stock.quantity:,}", style=style),
                f"{stock.amount:,}",
                Text(arrow[not change.rises] if is_new else "", style=style),
            )
        return table

    def _history(self, name: str) -> str:
        rates = self._histories.get(name, ())
        top = max(rates, default=0) or 1
        return "".join(self._bars[int(rate / top * (len(self._bars) - 1))] for rate in rates) if self._bars else ""


@dataclass(frozen=True, slots=True)
class _Change:
    """When a balance changed last, and in which direction."""

    quantity: Decimal
    since_s: float
    rises: bool
