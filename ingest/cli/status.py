"""`tallystream status`: where the stream stands."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table

from ingest.cli.common import output, settings_for
from ingest.domain.status import PartitionStatus, Status
from ingest.wiring import commands


def status(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show positions, lag, the last batch, dead letters and pending deltas. Exit code 1 when a partition is stopped."""
    settings = settings_for("postgres_dsn")
    found = commands.read_status(settings)
    if as_json:
        typer.echo(json.dumps(asdict(found), default=str, indent=2))
    else:
        _print(found, settings.compact_alarm_ms)
    if any(partition.problem for partition in found.partitions):
        raise typer.Exit(1)


def _print(found: Status, alarm_ms: int) -> None:
    console = output()
    table = Table(box=None, pad_edge=False)
    table.add_column("partition", overflow="fold")
    for heading in ("position", "lag", "behind", "applied", "duplicates", "stale", "refused", "last batch"):
        table.add_column(heading, justify="right", no_wrap=True)
    for p in found.partitions:
        counts = (p.applied, p.duplicates, p.stale, p.dead_letters)
        name = f"{p.topic}[{p.partition}]"
        table.add_row(name, str(p.next_offset), *_lag(p), *map(str, counts), _ago(p.last_committed_at))
    console.print(
        table if found.partitions else f"group {found.group} has no positions yet: no worker has read anything"
    )
    for partition in found.partitions:
        if partition.problem:
            console.print(f"stopped: {partition.problem}", style="red")
    waiting = ", ".join(f"{count} {reason}" for state, reason, count in found.dead_letters if state == "waiting")
    console.print(f"dead letters waiting: {waiting or 'none'}")
    for pending in found.pending_deltas:
        age = f", the oldest for {pending.age_s:.0f} s" if pending.age_s is not None else ""
        console.print(f"pending deltas of {pending.register}: {pending.deltas}{age}")
        if pending.is_late(alarm_ms):
            console.print(f"reads of {pending.register} get slower: no `tallystream compact` keeps up", style="red")
    if found.broker_problem:
        console.print(f"lag is unknown: {found.broker_problem}")


def _lag(partition: PartitionStatus) -> tuple[str, str]:
    if partition.lag_records is None:
        return "?", "?"
    return str(partition.lag_records), "-" if partition.lag_seconds is None else f"{partition.lag_seconds:.0f} s"


def _ago(moment: datetime | None) -> str:
    if moment is None:
        return "-"
    return f"{(datetime.now(UTC) - moment).total_seconds():.0f} s ago"
