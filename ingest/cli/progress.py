"""What a person sees of long work while it goes on: a line on a terminal, and one log entry per register elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_log = structlog.get_logger(__name__)

T = TypeVar("T")

_LOG_EVERY_S = 5.0


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


@contextmanager
def counting(what: str) -> Iterator[Callable[[str, int, int], None]]:
    """Show how far something has come: what is told is the step, how much of it is done, and of how much."""
    if not sys.stderr.isatty():
        yield _log_now_and_then(what)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as progress:
        task = progress.add_task(what, total=None)
        yield lambda step, done, of: progress.update(
            task, description=f"{what}: {step}", completed=done, total=of or None
        )


def _log_now_and_then(what: str) -> Callable[[str, int, int], None]:
    last: dict[str, float] = {}

    def report(step: str, done: int, of: int) -> None:
        now = time.monotonic()
        if done == of or now - last.get(step, 0.0) >= _LOG_EVERY_S:
            last[step] = now
            _log.info(what, step=step, done=done, of=of)

    return report
