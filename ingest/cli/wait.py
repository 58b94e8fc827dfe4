"""`tallystream wait`: read your own write. A script that has sent an event goes on when it has been applied."""

from datetime import timedelta
from typing import Annotated

import typer

from ingest.cli.common import settings_for
from ingest.wiring import commands


def wait(
    topic: Annotated[str, typer.Argument(help="Topic of the event.", metavar="TOPIC")],
    partition: Annotated[int, typer.Argument(help="Its partition.", metavar="PARTITION", min=0)],
    offset: Annotated[int, typer.Argument(help="Its offset, as the producer was told.", metavar="OFFSET", min=0)],
    *,
    group: Annotated[
        str | None, typer.Option(help="Consumer group that has to have applied it; any, when none is named.")
    ] = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", metavar="SECONDS", min=0, max=3600, help="How long to wait.")
    ] = 10.0,
) -> None:
    """Wait until an event has been applied (or refused: see `dead-letters`). Exit code 1 when the time is over."""
    settings = settings_for("postgres_dsn")
    event = f"{topic}[{partition}]@{offset}"
    if not commands.wait_for_event(settings, topic, partition, offset, timedelta(seconds=timeout_s), group):
        typer.echo(f"{event} has not been applied within {timeout_s:g} s", err=True)
        raise typer.Exit(1)
    typer.echo(f"{event} has been applied")
