"""What most commands need: the settings, logs in the form they ask for, and tables that scripts can read too."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from rich.console import Console

from ingest.observability.logs import configure_logs
from ingest.observability.sink import BackgroundStream, unlocked
from ingest.settings import Loaded, Settings, read_settings

# Wider than the longest detail of a dead letter.
_UNBROKEN = 10_000
_KIB = 1024


def settings_for(*required: str) -> Settings:
    """Read the settings and make sure that those the command cannot do without are given."""
    settings = loaded_settings().settings
    settings.require(*required)
    return settings


def loaded_settings() -> Loaded:
    """Read the settings with their origins, and configure the logs accordingly."""
    loaded = read_settings()
    configure_logs(loaded.settings.log_level, loaded.settings.log_format)
    return loaded


@contextmanager
def logs_that_never_wait(settings: Settings) -> Iterator[BackgroundStream]:
    """Let log lines be written by a thread of their own: whoever reads them, or stops reading, the work goes on."""
    stream = BackgroundStream(unlocked(sys.stderr))
    configure_logs(settings.log_level, settings.log_format, stream)
    try:
        yield stream
    finally:
        stream.drain()


def stop_when_told(stop: Callable[[], None]) -> None:
    """Let SIGTERM and Ctrl-C ask for an orderly end; a second one ends the process at once."""
    asked = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            # Nothing has to be tidied up: what is not committed is read again, or still pending.
            os._exit(128 + number)
        asked = True
        stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)


def output() -> Console:
    """Return standard output for tables; where nobody looks at a terminal, no line is broken.

    Nothing is taken for markup: what events say would come out mangled, or not at all.
    """
    width = None if sys.stdout.isatty() else _UNBROKEN
    return Console(width=width, markup=False, emoji=False, highlight=False)


def visible(text: str) -> str:
    """Return what an event says with its control characters as escapes: a terminal would obey them."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def size(count: int) -> str:
    """Return a number of bytes as a person reads it."""
    amount = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < _KIB:
            return f"{amount:.0f} {unit}"
        amount /= _KIB
    return f"{amount:,.1f} TB"
