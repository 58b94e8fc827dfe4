"""`tallystream compact`: folds pending deltas and keeps house, beside the workers."""

from typing import Annotated

import typer

from ingest import wiring
from ingest.cli.common import settings_for, stop_when_told


def compact(
    *, once: Annotated[bool, typer.Option("--once", help="Fold what is pending now, tidy up once, and exit.")] = False
) -> None:
    """Fold pending deltas of high-write registers, and keep house. SIGTERM or Ctrl-C finishes the slice under way."""
    compactor = wiring.build_compactor(settings_for("postgres_dsn"))
    stop_when_told(compactor.stop)
    if once:
        compactor.drain()
    else:
        compactor.run()
