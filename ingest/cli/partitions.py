"""`tallystream partitions`: which partitions of movements there are, making them ahead, letting old ones go."""

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from ingest.cli.care import AsJson, Registers
from ingest.cli.common import output, settings_for, size
from ingest.cli.progress import one_by_one
from ingest.settings import Settings
from ingest.wiring import commands


def partitions(
    registers: Registers = None,
    *,
    create_ahead: Annotated[
        str | None, typer.Option(metavar="INTERVAL", help="Make those from today to so far ahead: '6 months'.")
    ] = None,
    detach_older_than: Annotated[
        str | None,
        typer.Option(
            metavar="INTERVAL",
            help="Detach those that ended so long ago: '2 years'. Their sums stay; their tables are yours to archive.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the partitions of movements; with the options, make them ahead and detach old ones before that."""
    settings = settings_for("postgres_dsn")
    names = commands.choose_registers(settings, registers or [])
    work = one_by_one("partitions of", names, lambda name: _change(settings, name, create_ahead, detach_older_than))
    results = [result for _, result in work]
    if as_json:
        typer.echo(json.dumps(results, default=str, indent=2))
        return
    for result in results:
        if create_ahead is not None:
            typer.echo(f"{result['register']}: {result['created']} partitions created")
        if detach_older_than is not None:
            detached = ", ".join(f"{one['name']} ({one['movements']:,} movements)" for one in result["detached"])
            typer.echo(f"{result['register']}: detached {detached or 'nothing, no partition is that old'}")
    _print(results)


def _change(settings: Settings, register: str, ahead: str | None, older_than: str | None) -> dict[str, Any]:
    created = commands.create_partitions(settings, register, ahead) if ahead is not None else 0
    detached = list(commands.detach_partitions(settings, register, older_than)) if older_than is not None else []
    return {
        "register": register,
        "created": created,
        "detached": [asdict(each) for each in detached],
        "partitions": [asdict(each) for each in commands.list_partitions(settings, register)],
    }


def _print(results: list[dict[str, Any]]) -> None:
    table = Table("partition", "from", "before", "state", box=None, pad_edge=False)
    for heading in ("movements, about", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        for each in result["partitions"]:
            days = (str(each["from_date"]), str(each["before_date"]))
            table.add_row(each["name"], *days, each["state"], f"{each['movements']:,}", size(each["bytes"]))
    output().print(table if table.row_count else "there are no partitions yet: the first movement makes one")
