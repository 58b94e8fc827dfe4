"""What a person sees of long work while it goes on: a line on a terminal, and one log entry per register elsewhere."""

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import structlog
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_log = structlog.get_logger(__name__)

T = TypeVar("T")


def one_by_one(what: str, registers: Sequence[str], work: Callable[[str], T]) -> Iterator[tuple[str, T]]:
    """Do some work for each register and yield what it returned, as soon as it is there."""
    for number, register in enumerate(registers, 1):
        yield register, _shown(f"{what} {register} ({number} of {len(registers)})", register, work)


def _shown(what: str, register: str, work: Callable[[str], T]) -> T:
    if not sys.stderr.isatty():
        _log.info(what)
        return work(register)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    # Gone before the result is printed: standard output may be the same terminal, or a file.
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        progress.add_task(what, total=None)
        return work(register)
