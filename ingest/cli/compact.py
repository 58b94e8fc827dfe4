"""`tallystream compact`: folds pending deltas and keeps house, beside the workers."""

import os
import signal
from types import FrameType
from typing import Annotated

import typer

from ingest import wiring
from ingest.cli.common import settings_for


def compact(
    *, once: Annotated[bool, typer.Option("--once", help="Fold what is pending now, tidy up once, and exit.")] = False
) -> None:
    """Fold pending deltas of high-write registers, and keep house. SIGTERM or Ctrl-C finishes the slice under way."""
    settings = settings_for("postgres_dsn")
    compactor = wiring.build_compactor(settings)
    asked = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            # A slice that is not committed is still pending.
            os._exit(128 + number)
        asked = True
        compactor.stop()

    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGINT, on_signal)
    if once:
        compactor.drain()
    else:
        compactor.run()
