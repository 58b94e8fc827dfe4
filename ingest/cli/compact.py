"""`tallystream compact`: folds pending deltas and keeps house, beside the workers."""

from typing import Annotated

import typer

from ingest.cli.common import logs_that_never_wait, settings_for, stop_when_told
from ingest.wiring import commands, observing, processes
from ingest.wiring.starting import Start


def compact(
    *, once: Annotated[bool, typer.Option("--once", help="Fold what is pending now, tidy up once, and exit.")] = False
) -> None:
    """Fold pending deltas of high-write registers, and keep house. SIGTERM or Ctrl-C finishes the slice under way."""
    settings = settings_for("postgres_dsn")
    with logs_that_never_wait(settings) as log:
        compactor = processes.build_compactor(settings)
        if once:
            commands.check_database(settings)
            stop_when_told(compactor.stop)
            compactor.drain()
            return
        start = Start(settings, compactor.stop)
        stop_when_told(start.stop)
        with observing.watch_compactor(settings, compactor, lambda: log.dropped):
            start.wait_for_schema()
            compactor.run()
