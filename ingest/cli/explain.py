"""`tallystream explain`: one document from end to end, for whoever asks why a number is what it is."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from ingest.cli.common import output, settings_for, visible
from ingest.cli.progress import counting
from ingest.wiring import commands, rebuilding

MOST = 1000

_FROM_TOPIC = "--from-topic"
"""What the database says of itself when the topic knows more."""

_GRAINS = ("day", "month", "year")


def explain(
    recorder: Annotated[str, typer.Argument(help="The document, such as receipt:1.", metavar="RECORDER")],
    *,
    register: Annotated[
        str | None, typer.Option(help="Look in this register only; in all, when none is named.")
    ] = None,
    from_topic: Annotated[
        bool,
        typer.Option(
            "--from-topic", help="Read the topics as well: shows duplicates and stale events, which no table has."
        ),
    ] = False,
    most: Annotated[int, typer.Option(min=0, max=1_000_000, help="List at most so many movements and cells.")] = MOST,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show a document's events, dead letters and movements, and the numbers they are in. Exit code 1 when unknown."""
    settings = settings_for("postgres_dsn", *["kafka_bootstrap_servers"] * from_topic)
    found = commands.explain(settings, recorder, register, most)
    if from_topic:
        with counting(f"explaining {visible(recorder)}") as report:
            traced = rebuilding.trace_recorder(settings, recorder, register, report)
        for each in found:
            each["in_topic"] = [asdict(event) for event in traced if event.register == each["register"]]
            each["not_known"] = [what for what in each["not_known"] if _FROM_TOPIC not in what]
    if as_json:
        typer.echo(json.dumps(found, default=str, indent=2))
    elif not found:
        typer.echo(f"{visible(recorder)} is not known in {register or 'any register'}", err=True)
    else:
        for each in found:
            _print(each)
    if not found:
        raise typer.Exit(1)


def _print(found: Mapping[str, Any]) -> None:
    revision = "" if found["revision"] is None else f", revision {found['revision']}"
    typer.echo(
        f"{visible(found['recorder'])} in {found['register']}: {found['events_applied']:,} events applied{revision}"
    )
    _print_rows("event", [_event(event) for event in found["events"]])
    _print_rows("in the topic", [_traced(event) for event in found.get("in_topic", ())])
    letters = [_letter(letter) for letter in found["dead_letters"]]
    _print_rows("dead letter", letters)
    _print_rows("movement", [_movement(movement) for movement in found["movements"]])
    by_sql = f", {found['movements_by_sql']:,} of them posted by SQL" if found["movements_by_sql"] else ""
    typer.echo(f"  {found['movements_count']:,} movements{by_sql}, in {len(found['cells']):,} cells")
    for cell in found["cells"]:
        _print_cell(cell)
    for what in found["not_known"]:
        typer.echo(f"  not known: {what}")


def _event(event: Mapping[str, Any]) -> dict[str, str]:
    return {
        "where": _place(event),
        "movements": str(event["movements"]),
        "batch": str(event["batch_id"]),
        "by": event["worker"] or "-",
        # Batches of long ago are added up to one row, and lose their time.
        "at": event["committed_at"] or "-",
    }


def _traced(event: Mapping[str, Any]) -> dict[str, str]:
    outcome = " ".join(part for part in (event["outcome"], event["reason"]) if part)
    return {"where": _place(event), "id": event["event_id"] or "-", "outcome": outcome}


def _letter(letter: Mapping[str, Any]) -> dict[str, str]:
    why = " ".join(part for part in (letter["path"], letter["detail"]) if part)
    return {
        "id": str(letter["id"]),
        "where": _place(letter),
        "state": letter["state"],
        "reason": letter["reason"],
        "why": why,
    }


def _movement(movement: Mapping[str, Any]) -> dict[str, str]:
    own = {"id", "recorded_at", "period", "dim_hash", "topic", "partition", "event_offset", "batch_id"}
    columns = sorted(set(movement) - own)
    place = (
        "by SQL"
        if movement["topic"] is None
        else f"{movement['topic']}[{movement['partition']}]@{movement['event_offset']}"
    )
    return {"period": movement["period"], **{name: _text(movement[name]) for name in columns}, "from": place}


def _print_cell(cell: Mapping[str, Any]) -> None:
    typer.echo(
        f"  cell {_listed(cell['dimensions'])} (key {cell['dim_hash']}): {_listed(cell['contributes'])} from here"
    )
    if "balance" in cell:
        typer.echo(f"    balance now: {_listed(cell['balance'])}")
    for grain in _GRAINS:
        for total in cell.get(f"{grain}s") or ():
            typer.echo(f"    {grain} {total['period']}: {_listed(total['turnover'])}")


def _print_rows(what: str, rows: list[dict[str, str]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=True)
    table.add_column(what)
    for heading in rows[0]:
        table.add_column(heading)
    for number, row in enumerate(rows, 1):
        table.add_row(str(number), *map(visible, row.values()))
    output().print(table)


def _place(event: Mapping[str, Any]) -> str:
    return f"{event['topic']}[{event['partition']}]@{event['offset']}"


def _listed(values: Mapping[str, Any]) -> str:
    return visible(", ".join(f"{name} {_text(value)}" for name, value in values.items()))


def _text(value: object) -> str:
    return "null" if value is None else str(value)
