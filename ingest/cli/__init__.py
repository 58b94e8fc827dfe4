"""The command `tallystream`: one module per group of commands, put together here.

Results go to standard output, everything else to standard error. Exit codes: 0 done; 1 done, but
with something to report; 2 not done, and the message says what to correct.
"""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from ingest import __version__
from ingest.cli import (
    asyncapi,
    care,
    compact,
    dead_letters,
    demo,
    explain,
    migrate,
    partitions,
    positions,
    produce,
    rebuild,
    registers,
    run,
    sample,
    settings,
    status,
    wait,
)
from ingest.errors import TallystreamError
from ingest.observability.logs import configure_logs
from ingest.settings import CONFIG_VARIABLE

app = typer.Typer(
    name="tallystream",
    help="Accumulation registers in PostgreSQL, kept exactly right from a Kafka stream.",
    epilog="Settings are variables TALLYSTREAM_… or keys of tallystream.toml: `tallystream settings` lists them."
    " Begin with migrate and register apply; then run.",
    no_args_is_help=True,
    # A pretty traceback shows the values of variables, and some of them are passwords.
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("compact")(compact.compact)
app.command("status")(status.status)
app.command("produce")(produce.produce)
app.command("wait")(wait.wait)
app.command("explain")(explain.explain)
app.add_typer(registers.app, name="register")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(positions.app, name="positions")
app.command("verify")(care.verify)
app.command("rebuild")(rebuild.rebuild)
app.command("stats")(care.stats)
app.command("partitions")(partitions.partitions)
app.command("migrate")(migrate.migrate)
app.command("settings")(settings.show)
app.command("demo")(demo.demo)
app.command("sample-events")(sample.sample_events)
app.command("asyncapi")(asyncapi.asyncapi)


def main() -> None:
    """Run the command line; what an operator has to correct is a message, not a traceback."""
    try:
        app()
    except TallystreamError as error:
        first, *rest = str(error).splitlines() or [type(error).__name__]
        sys.stderr.write("\n".join([f"tallystream: {first}", *(f"             {line}" for line in rest)]) + "\n")
        sys.exit(2)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tallystream {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    config: Annotated[
        Path | None,
        typer.Option("--config", "-c", metavar="FILE", help=f"Settings file; the same as {CONFIG_VARIABLE}."),
    ] = None,
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if config is not None:
        os.environ[CONFIG_VARIABLE] = str(config)
    # Until the settings are read: without it structlog would write to standard output.
    configure_logs()
