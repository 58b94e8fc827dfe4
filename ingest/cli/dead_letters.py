"""`tallystream dead-letters`: what was refused and why, trying it again, letting it go."""

import base64
import json
from typing import Annotated

import typer
from rich.table import Table

from ingest.cli.common import output, settings_for, visible
from ingest.errors import SettingsError
from ingest.wiring import commands

app = typer.Typer(no_args_is_help=True, help="Refused events: list, show, retry, drop.")

State = Annotated[str, typer.Option(help="waiting, retried, dropped, or all.")]
Reason = Annotated[str | None, typer.Option(help="Only those with this reason code.")]
Ids = Annotated[list[int] | None, typer.Argument(help="Numbers as `list` shows them.", metavar="ID...")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def list_dead_letters(
    *,
    state: State = "waiting",
    reason: Reason = None,
    register: Annotated[str | None, typer.Option(help="Only those of this register.")] = None,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List refused events, the newest first."""
    if state not in {"waiting", "retried", "dropped", "all"}:
        message = f"state {state} is not known; choose waiting, retried, dropped or all"
        raise SettingsError(message)
    letters = commands.list_dead_letters(
        settings_for("postgres_dsn"), None if state == "all" else state, reason, register, most
    )
    if as_json:
        typer.echo(json.dumps(letters, default=str, indent=2))
        return
    table = Table("id", "state", "reason", "where", "recorder", "from", "detail", box=None, pad_edge=False)
    for letter in letters:
        source = f"{letter['topic']}[{letter['partition']}]@{letter['event_offset']}"
        where = str(letter["path"] or "-")
        columns = (letter["id"], letter["state"], letter["reason"], where, letter["recorder"] or "-", source)
        table.add_row(*(visible(str(column)) for column in (*columns, letter["detail"])))
    output().print(table if letters else "no dead letters")


@app.command()
def show(dead_letter_id: Annotated[int, typer.Argument(metavar="ID")]) -> None:
    """Show one dead letter whole, as JSON; bytes that are not text are in base64."""
    letter = commands.show_dead_letter(settings_for("postgres_dsn"), dead_letter_id)
    typer.echo(json.dumps(letter, default=_show_bytes, indent=2, ensure_ascii=False))


@app.command()
def retry(
    ids: Ids = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="All that wait.")] = False,
    reason: Reason = None,
) -> None:
    """Decode dead letters again and apply them; those refused again stay. Exit code 1 when any was refused."""
    if not ids and not every and reason is None:
        message = "say which dead letters: numbers, --reason CODE, or --all"
        raise SettingsError(message)
    retried = commands.retry_dead_letters(settings_for("postgres_dsn"), tuple(ids) if ids else None, reason)
    typer.echo(f"{retried.settled} settled with {retried.movements} movements, {len(retried.refused)} refused again")
    for dead_letter_id, refusal in retried.refused:
        typer.echo(visible(f"  {dead_letter_id}: {refusal.reason} {refusal.path} {refusal.detail}".rstrip()))
    if retried.refused:
        raise typer.Exit(1)


@app.command()
def drop(
    ids: Annotated[list[int], typer.Argument(metavar="ID...")],
    *,
    note: Annotated[str, typer.Option(help="Why; it is kept with the dead letter.")],
) -> None:
    """Give up dead letters. Their rows stay, with the note."""
    count = commands.drop_dead_letters(settings_for("postgres_dsn"), ids, note)
    typer.echo(f"{count} dropped")
    if count < len(set(ids)):
        typer.echo(f"{len(set(ids)) - count} were not waiting, or do not exist", err=True)
        raise typer.Exit(1)


def _show_bytes(value: object) -> object:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}
