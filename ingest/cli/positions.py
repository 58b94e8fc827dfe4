"""`tallystream positions`: where each partition is read from, and the only way to decide otherwise."""

import json
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from ingest.cli.common import output, settings_for, visible
from ingest.domain.moves import Wish, describe_move
from ingest.domain.positions import TopicPartition
from ingest.domain.status import PartitionStatus
from ingest.errors import SettingsError
from ingest.wiring import commands

app = typer.Typer(no_args_is_help=True, help="Positions: list, set, resume, history.")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Topic = Annotated[str, typer.Argument(metavar="TOPIC")]
Number = Annotated[int, typer.Argument(metavar="PARTITION", min=0)]
Reason = Annotated[str, typer.Option(help="Why; it is recorded.")]


@app.command("list")
def list_positions(*, as_json: AsJson = False) -> None:
    """List the group's positions against their logs. Exit code 1 when a partition is stopped."""
    found = commands.read_status(settings_for("postgres_dsn"))
    if as_json:
        rows = [{"group": found.group, **asdict(partition)} for partition in found.partitions]
        typer.echo(json.dumps(rows, default=str, indent=2))
    else:
        headings = ("group", "topic", "partition", "topic id", "next offset", "epoch", "owner", "log", "lag", "state")
        table = Table(*headings, box=None, pad_edge=False)
        for partition in found.partitions:
            table.add_row(found.group, *_cells(partition))
        output().print(table if found.partitions else f"group {found.group} has no positions yet")
        for partition in found.partitions:
            if partition.problem:
                output().print(f"stopped: {visible(partition.problem)}")
        if found.broker_problem:
            output().print(f"logs are unknown: {found.broker_problem}")
    if any(partition.problem for partition in found.partitions):
        raise typer.Exit(1)


@app.command("set")
def set_position(
    topic: Topic,
    partition: Number,
    *,
    to: Annotated[str, typer.Option(metavar="OFFSET|start|end", help="The next offset to read.")],
    reason: Reason,
    accept_new_topic: Annotated[bool, typer.Option(help="The topic was created anew: read the new one.")] = False,
    force: Annotated[bool, typer.Option(help="Take an offset that the log does not have.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Move a position, and record who did it and why. A running worker is fenced and reads on from there."""
    settings = settings_for("postgres_dsn", "kafka_bootstrap_servers")
    _check_reason(reason)
    move = commands.plan_move(settings, Wish(TopicPartition(topic, partition), to, accept_new_topic, force))
    for line in describe_move(move, settings.group):
        typer.echo(line, err=True)
    _confirm(yes=yes)
    moved = commands.move_position(settings, move, reason)
    before = "new" if moved.from_offset is None else moved.from_offset
    typer.echo(f"{move.wish.topic_partition}: {before} -> {moved.to_offset}, {moved.skipped} offsets skipped")


@app.command()
def resume(topic: Topic, partition: Number, *, reason: Reason) -> None:
    """Let a partition go on that too many dead letters in a row have stopped."""
    settings = settings_for("postgres_dsn")
    _check_reason(reason)
    where = TopicPartition(topic, partition)
    length = commands.resume_position(settings, where, reason)
    allowed = settings.max_dead_letters_in_a_row
    typer.echo(f"{where}: {length} dead letters in a row forgiven; it stops at the next {allowed}")


@app.command()
def history(
    *,
    most: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many, the newest first.")] = 50,
    as_json: AsJson = False,
) -> None:
    """List what people did to positions, and why."""
    moves = commands.list_moves(settings_for("postgres_dsn"), most)
    if as_json:
        typer.echo(json.dumps([asdict(move) for move in moves], default=str, indent=2))
        return
    table = Table("when", "what", "partition", "from", "to", "skipped", "who", "why", box=None, pad_edge=False)
    for move in moves:
        before = "-" if move.from_offset is None else move.from_offset
        who = f"{move.done_by} ({move.client})"
        cells = (f"{move.topic}[{move.partition}]", before, move.to_offset, move.skipped, who, move.reason)
        table.add_row(f"{move.done_at:%Y-%m-%d %H:%M:%S}", move.action, *(visible(str(cell)) for cell in cells))
    output().print(table if moves else "no position was ever moved")


def _cells(partition: PartitionStatus) -> list[str]:
    log = "?" if partition.log_start is None else f"{partition.log_start}..{partition.log_end}"
    lag = "?" if partition.lag_records is None else str(partition.lag_records)
    numbers = (str(partition.next_offset), str(partition.epoch))
    state = "stopped" if partition.problem else "ok"
    name = (partition.topic, str(partition.partition), partition.topic_id or "-")
    return [*name, *numbers, visible(partition.owner) or "-", log, lag, state]


def _check_reason(reason: str) -> None:
    if not reason.strip():
        raise SettingsError("--reason is empty: whoever looks at this later wants to know why")


def _confirm(*, yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise SettingsError("nothing was moved: there is nobody to ask; say --yes")
    typer.confirm("Move it?", abort=True, err=True)
