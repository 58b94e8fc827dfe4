"""What a benchmark says: figures with their floor and goal, as a table for people and as JSON for programs."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median

BEGIN = "<!-- written by make generate from docs/performance.json -->"
END = "<!-- end -->"
UNITS = {"ratio": "", "us": " us", "ms": " ms", "s": " s", "MB": " MB"}


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured value. `against` is what a ratio is of; `details` are absolute values, for whoever asks how."""

    row: str
    what: str
    value: float
    unit: str = "ratio"
    against: str = ""
    floor: float | None = None
    goal: float | None = None
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """Where the value stands; a ratio is better when it is greater, everything else when it is smaller."""
        if self.floor is None and self.goal is None:
            return "reported"
        if self.goal is not None and self._reaches(self.goal):
            return "goal"
        if self.floor is not None and self._reaches(self.floor):
            return "floor"
        return "missed"

    def line(self) -> str:
        """The figure as a line of the table."""
        limits = f"{_number(self.floor):>8}{_number(self.goal):>8}"
        return f"{self.row:16}{self.what:58}{self._shown():>12}{limits}  {self.verdict}"

    def explained(self) -> str:
        """How the figure came about."""
        return ", ".join(f"{name} {value:,.6g}" for name, value in self.details.items())

    def _shown(self) -> str:
        return _number(self.value) + UNITS[self.unit]

    def _reaches(self, limit: float) -> bool:
        return self.value >= limit if self.unit == "ratio" else self.value <= limit


def ratio(name: str, what: str, ours: Sequence[float], theirs: Sequence[float], **more: float | None) -> Figure:
    """The median over rounds of what we reach as a share of what the yardstick reaches; both in rows a second."""
    shares = [our / their for our, their in zip(ours, theirs, strict=True)]
    details = {
        "movements/s": median(ours),
        "yardstick rows/s": median(theirs),
        "least": min(shares),
        "greatest": max(shares),
    }
    return Figure(name, what, median(shares), against="yardstick", details=details, **more)  # type: ignore[arg-type]


def say(text: str = "") -> None:
    """A line, at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def print_figures(figures: Sequence[Figure]) -> None:
    """All figures, after they have been measured."""
    say(f"\n{'row':16}{'':58}{'measured':>12}{'floor':>8}{'goal':>8}")
    for figure in figures:
        say(figure.line())


def write_figures(path: Path, machine: Mapping[str, str], figures: Sequence[Figure], order: Sequence[str]) -> None:
    """The same as JSON; rows that the file has and that were not measured now stay as they are."""
    measured = {figure.row for figure in figures}
    kept = json.loads(path.read_text(encoding="utf-8"))["figures"] if path.exists() else []
    rows = [row for row in kept if row["row"] not in measured]
    rows += [{**asdict(figure), "details": dict(figure.details), "verdict": figure.verdict} for figure in figures]
    rows.sort(key=lambda row: order.index(row["row"]))
    path.write_text(json.dumps({"machine": dict(machine), "figures": rows}, indent=2) + "\n", encoding="utf-8")


def written_anew(page: str, measured: str) -> str:
    """The page on performance with the machine and the table of the figures that were written as JSON."""
    document = json.loads(measured)
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    machine = [f"| {name} | {value} |" for name, value in document["machine"].items()]
    figures = [Figure(**{key: value for key, value in row.items() if key != "verdict"}) for row in document["figures"]]
    lines = ["| machine | |", "| --- | --- |", *machine, "", "| row | | measured | floor | goal | |"]
    lines += ["| --- | --- | --- | --- | --- | --- |", *map(_table_row, figures)]
    return f"{before}{BEGIN}\n\n" + "\n".join(lines) + f"\n\n{END}{after}"


def _table_row(figure: Figure) -> str:
    limits = f"{_number(figure.floor)} | {_number(figure.goal)}"
    verdict = f"**{figure.verdict}**" if figure.verdict == "missed" else figure.verdict
    return f"| {figure.row} | {figure.what} | {figure._shown()} | {limits} | {verdict} |"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}" if value < 100 else f"{value:,.0f}"
