"""`tallystream register`: declarations from TOML files, and those that are in the database."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ingest.cli.common import output, settings_for
from ingest.domain.declarations import read_declarations
from ingest.domain.registers import Register
from ingest.errors import DeclarationError
from ingest.wiring import commands

app = typer.Typer(no_args_is_help=True, help="Declare registers, and look at those there are.")

Files = Annotated[list[Path], typer.Argument(help="TOML files with tables register.NAME.", metavar="FILE...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def apply(files: Files) -> None:
    """Create or extend registers to match the files; what would lose data is refused."""
    for name, what in commands.apply_registers(settings_for("postgres_dsn"), read_files(files)):
        typer.echo(f"{name}: {what}")


@app.command("list")
def list_registers(*, as_json: AsJson = False) -> None:
    """List the registers in the database."""
    registers = commands.read_registers(settings_for("postgres_dsn"))
    if as_json:
        typer.echo(json.dumps([_as_dict(register) for register in registers.values()], indent=2))
        return
    if not registers:
        typer.echo("there is no register yet; `tallystream register apply FILE` declares those of a file")
        return
    table = Table("register", "kind", "dimensions", "resources", "totals", "time zone", box=None, pad_edge=False)
    for register in registers.values():
        table.add_row(
            register.name,
            register.kind,
            ", ".join(f"{column.name} {column.type}" for column in register.dimensions),
            ", ".join(f"{column.name} {column.type}" for column in register.resources),
            register.totals_period,
            register.time_zone,
        )
    output().print(table)


@app.command()
def show(name: str) -> None:
    """Show one register's declaration as JSON."""
    settings = settings_for("postgres_dsn")
    commands.choose_registers(settings, [name])
    typer.echo(json.dumps(_as_dict(commands.read_registers(settings)[name]), indent=2))


def read_files(files: Sequence[Path]) -> tuple[Register, ...]:
    """Return the registers that the files declare."""
    return read_declarations((str(file), read_file(file)) for file in files)


def read_file(file: Path) -> str:
    """Return the text of a file that declares something."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"{file} cannot be read: {reason}"
        raise DeclarationError(message) from error


def _as_dict(register: Register) -> dict[str, object]:
    return json.loads(json.dumps(asdict(register), default=str))  # type: ignore[no-any-return]
