"""`tallystream verify` and `stats`: whether registers are right, and how big they are.

All of it goes on while the stream runs. Without names it is about every register.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from ingest.cli.common import output, settings_for, size, visible
from ingest.cli.progress import one_by_one
from ingest.postgres.care import Difference, Verification
from ingest.wiring import commands

Registers = Annotated[
    list[str] | None, typer.Argument(help="Registers; all when none is named.", metavar="REGISTER...")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]

DIFFERENCES_SHOWN = 20


def verify(
    registers: Registers = None,
    *,
    most: Annotated[int, typer.Option(min=0, max=100_000, help="Show at most so many differences of a register.")] = (
        DIFFERENCES_SHOWN
    ),
    as_json: AsJson = False,
) -> None:
    """Compare totals and balances with the movements, in one snapshot. Exit code 1 when there is a difference."""
    settings = settings_for("postgres_dsn")
    names = commands.choose_registers(settings, registers or [])
    verified = []
    for _, each in one_by_one("verifying", names, lambda name: commands.verify(settings, name, most)):
        verified.append(each)
        if not as_json:
            _print_verification(each)
    if as_json:
        typer.echo(json.dumps([_verification(each) for each in verified], default=str, indent=2))
    elif not verified:
        typer.echo("there is no register yet")
    if any(each.found for each in verified):
        raise typer.Exit(1)


def stats(registers: Registers = None, *, as_json: AsJson = False) -> None:
    """Show the sizes of registers; numbers of rows are the planner's estimates, so nothing is counted."""
    settings = settings_for("postgres_dsn")
    found = [commands.read_stats(settings, name) for name in commands.choose_registers(settings, registers or [])]
    if as_json:
        typer.echo(json.dumps(found, indent=2))
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("table")
    for heading in ("rows, about", "size"):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in found:
        name = f"{one['register']}_movements, {one['partitions']} partitions"
        table.add_row(name, f"{one['movements_estimate']:,}", size(one["movements_bytes"]))
        for derived, figures in sorted((one["tables"] or {}).items()):
            table.add_row(f"  {derived}", f"{figures['rows_estimate']:,}", size(figures["bytes"]))
        if one["detached_partitions"]:
            label = f"  detached, {one['detached_partitions']} partitions"
            table.add_row(label, f"{one['detached_movements']:,}", "-")
    output().print(table if found else "there is no register yet")


def _print_verification(verified: Verification) -> None:
    if not verified.found:
        typer.echo(f"{verified.register}: right ({', '.join(verified.checks)})")
        return
    count = sum(verified.found.values())
    counts = ", ".join(f"{number:,} {status} in {check}" for (check, status), number in sorted(verified.found.items()))
    typer.echo(f"{verified.register}: {count:,} differences: {counts}")
    table = Table("check", "period", "cell", "key", "status", "expected", "actual", box=None, pad_edge=False)
    for difference in verified.differences:
        table.add_row(*_cells(difference))
    if verified.differences:
        output().print(table)
    if count > len(verified.differences):
        typer.echo(f"and {count - len(verified.differences):,} more; --most shows as many as you like")


def _cells(difference: Difference) -> tuple[str, ...]:
    values = (_listed(each) for each in (difference.expected, difference.actual))
    period = str(difference.period or "-")
    return difference.check, period, _listed(difference.cell), str(difference.dim_hash), difference.status, *values


def _listed(values: Mapping[str, object] | None) -> str:
    if values is None:
        return "-"
    return visible(", ".join(f"{name} {'null' if value is None else value}" for name, value in values.items()))


def _verification(verified: Verification) -> dict[str, object]:
    return {
        "register": verified.register,
        "right": not verified.found,
        "checks": verified.checks,
        "found": [
            {"check": check, "status": status, "differences": number}
            for (check, status), number in sorted(verified.found.items())
        ],
        "differences": [asdict(difference) for difference in verified.differences],
    }
