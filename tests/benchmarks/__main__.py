"""`make bench`: figures, not tests. Everything is measured side by side in one run, and ratios are what counts.

python -m tests.benchmarks [ROW ...] [--factor 0.1] [--rounds 3] [--json FILE] [--set NAME=VALUE] [--list]
"""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.benchmarks import (
    correcting,
    growing,
    high_write,
    reading,
    remembering,
    retail_stream,
    streaming,
    thinking,
    waiting,
)
from tests.benchmarks.figures import Figure, print_figures, say, write_figures
from tests.benchmarks.stage import Stage, describe_machine, open_stage

MODULES = (thinking, streaming, retail_stream, correcting, reading, growing, waiting, remembering, high_write)
ROWS: Mapping[str, Callable[[Stage, str], list[Figure]]] = {
    name: measure for module in MODULES for name, measure in module.ROWS.items()
}


def main() -> None:
    """Measures what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("rows", nargs="*", help="which rows; all unless named")
    parser.add_argument("--factor", type=float, default=1.0, help="how much of each row's load")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured; medians are reported")
    parser.add_argument("--json", type=Path, help="write the figures here, too")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the workers")
    parser.add_argument("--list", action="store_true", help="name the rows, and do nothing")
    chosen = parser.parse_args()
    if chosen.list:
        say("\n".join(ROWS))
        return
    unknown = sorted(set(chosen.rows) - set(ROWS))
    if unknown:
        parser.error(f"no such rows: {', '.join(unknown)}; there are {', '.join(ROWS)}")
    machine = describe_machine()
    for name, value in machine.items():
        say(f"{name:12}{value}")
    say()
    figures: list[Figure] = []
    with open_stage(chosen.factor, chosen.rounds, dict(item.split("=", 1) for item in chosen.set)) as stage:
        for name in chosen.rows or ROWS:
            figures += ROWS[name](stage, name)
            if chosen.json:
                write_figures(chosen.json, machine, figures, list(ROWS))
    print_figures(figures)


if __name__ == "__main__":
    main()
