"""`tallystream rebuild`: totals and balances from the movements, or a whole register from its topic."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ingest.cli.common import output, settings_for, stop_when_told, visible
from ingest.cli.progress import counting, one_by_one
from ingest.cli.registers import read_files
from ingest.domain.rebuilding import CellDifference
from ingest.domain.registers import Register
from ingest.errors import SettingsError
from ingest.rebuilder import Choices, Rebuilt, StoppedError
from ingest.settings import Settings
from ingest.wiring import commands, rebuilding

DIFFERENCES_SHOWN = 20


def rebuild(
    registers: Annotated[
        list[str] | None, typer.Argument(help="Registers; all when none is named.", metavar="REGISTER...")
    ] = None,
    *,
    from_topic: Annotated[
        bool,
        typer.Option("--from-topic/--from-movements", help="Replay one register's topic, or add up what is there."),
    ] = False,
    cell: Annotated[
        int | None,
        typer.Option(help="From movements: only the balance of the cell with this key; `verify` shows keys."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="From the topic: show what would change, and change nothing.")
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the shadow after a dry run, to go on with it later.")
    ] = False,
    declaration: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="From the topic: declare the register anew; with --dry-run, a what-if."),
    ] = None,
    drop_sql_movements: Annotated[
        bool, typer.Option("--drop-sql-movements", help="Do not carry over movements that were posted by SQL.")
    ] = False,
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Begin where the log does, although earlier events are gone.")
    ] = False,
    accept_refusals: Annotated[
        bool,
        typer.Option("--accept-refusals", help="Make dead letters of applied events that the replay refuses."),
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Give up a rebuild from the topic that was not finished.")
    ] = False,
    most: Annotated[
        int, typer.Option(min=0, max=100_000, help="Show at most so many differences.")
    ] = DIFFERENCES_SHOWN,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make totals and balances what the movements say, or a register what its topic says; the stream goes on.

    Exit code 1 when a dry run finds differences, or when a rebuild was stopped: the same command goes on with it.
    """
    if not from_topic and not discard:
        only = {"--dry-run": dry_run, "--keep": keep, "--declaration": declaration, "--accept-gap": accept_gap}
        only |= {"--drop-sql-movements": drop_sql_movements, "--accept-refusals": accept_refusals}
        _refuse([name for name, given in only.items() if given])
        _from_movements(registers or [], cell, as_json=as_json)
        return
    if len(registers or []) != 1 or cell is not None:
        raise SettingsError("one register at a time is rebuilt from its topic: name it, and no cell of it")
    [register] = registers or []
    if discard:
        settings = settings_for("postgres_dsn")
        commands.choose_registers(settings, [register])
        gone = rebuilding.discard_rebuild(settings, register)
        typer.echo(f"{register}: {'the rebuild was given up' if gone else 'no rebuild from the topic is under way'}")
        return
    settings = settings_for("postgres_dsn", "kafka_bootstrap_servers")
    commands.choose_registers(settings, [register])
    choices = Choices(dry_run, keep, drop_sql_movements, accept_gap, accept_refusals, most)
    _from_topic(
        settings, register, None if declaration is None else _declared(declaration, register), choices, as_json=as_json
    )


def _refuse(options: list[str]) -> None:
    if options:
        raise SettingsError(f"{', '.join(options)}: only a rebuild from the topic has that; say --from-topic")


def _from_movements(registers: list[str], cell: int | None, *, as_json: bool) -> None:
    if cell is not None and len(registers) != 1:
        raise SettingsError("--cell is the key of a cell in one register: name that register")
    settings = settings_for("postgres_dsn")
    names = commands.choose_registers(settings, registers)
    rebuilt = []
    for register, done in one_by_one("rebuilding", names, lambda name: commands.rebuild(settings, name, cell)):
        rebuilt.append(done)
        if not as_json:
            mended = f"mended {done.totals:,} rows of totals and {done.balances:,} of balances"
            typer.echo(f"{register}: {mended if done.totals or done.balances else 'nothing had to be mended'}")
    if as_json:
        typer.echo(json.dumps([asdict(done) for done in rebuilt], indent=2))
    elif not rebuilt:
        typer.echo("there is no register yet")


def _declared(file: Path, register: str) -> Register:
    for declared in read_files([file]):
        if declared.name == register:
            return declared
    raise SettingsError(f"{file} does not declare register {register}")


def _from_topic(
    settings: Settings, register: str, declaration: Register | None, choices: Choices, *, as_json: bool
) -> None:
    with counting(f"rebuilding {register}") as report:
        rebuilder = rebuilding.build_rebuilder(settings, register, declaration, report)
        stop_when_told(rebuilder.stop)
        try:
            rebuilt = rebuilder.run(choices)
        except StoppedError:
            typer.echo(f"{register}: stopped; the same command goes on from here, --discard gives it up", err=True)
            raise typer.Exit(1) from None
    if as_json:
        typer.echo(json.dumps(_as_json(rebuilt), default=str, indent=2))
    else:
        _print(rebuilt)
    if choices.dry_run and rebuilt.comparison is not None and rebuilt.comparison.found:
        raise typer.Exit(1)


def _print(rebuilt: Rebuilt) -> None:
    name, counts, comparison, carried = rebuilt.shadow.register, rebuilt.replayed, rebuilt.comparison, rebuilt.carried
    resumed = (
        f", going on with a rebuild of {rebuilt.shadow.begun_at:%Y-%m-%d %H:%M:%S}" if rebuilt.shadow.resumed else ""
    )
    outcomes = ", ".join(f"{number:,} {outcome.value}" for outcome, number in sorted(counts.outcomes.items()))
    typer.echo(f"{name}: read {counts.events:,} events{resumed}: {outcomes or 'none of this register'}")
    typer.echo(f"  {counts.movements:,} movements; {counts.of_others:,} events are not this register's")
    if counts.given_up:
        typer.echo(f"  {counts.given_up:,} events were left out, which somebody had given up")
    for reason, number in sorted(rebuilt.refusals.items()):
        typer.echo(f"  {number:,} events refused: {reason}")
    if rebuilt.new_refusals:
        typer.echo(f"  {rebuilt.new_refusals:,} of the refused events are applied in the live register")
    if carried is not None and carried.by_sql:
        typer.echo(f"  {carried.by_sql:,} movements by SQL were {'dropped' if rebuilt.dropped_sql else 'carried over'}")
    if comparison is not None and comparison.found:
        count = sum(comparison.found.values())
        counted = ", ".join(f"{number:,} by {grain}" for grain, number in sorted(comparison.found.items()))
        typer.echo(f"{name}: {count:,} differences: {counted}")
        table = Table("sum", "period", "cell", "live", "rebuilt", box=None, pad_edge=False)
        for difference in comparison.differences:
            table.add_row(*_row(difference))
        if comparison.differences:
            output().print(table)
        if count > len(comparison.differences):
            typer.echo(f"and {count - len(comparison.differences):,} more; --most shows as many as you like")
    else:
        typer.echo(f"{name}: every cell is as it was")
    typer.echo(f"{name}: {'the rebuilt tables are in place' if rebuilt.exchanged else 'nothing was changed'}")


def _row(difference: CellDifference) -> tuple[str, ...]:
    period = str(difference.period or "-")
    return difference.grain, period, _listed(difference.cell), _listed(difference.live), _listed(difference.rebuilt)


def _listed(values: Mapping[str, Any] | None) -> str:
    if values is None:
        return "-"
    return visible(", ".join(f"{name} {'null' if value is None else value}" for name, value in values.items()))


def _as_json(rebuilt: Rebuilt) -> dict[str, object]:
    counts, comparison = rebuilt.replayed, rebuilt.comparison
    return {
        "register": rebuilt.shadow.register,
        "resumed": rebuilt.shadow.resumed,
        "exchanged": rebuilt.exchanged,
        "events": counts.events,
        "of_other_registers": counts.of_others,
        "given_up": counts.given_up,
        "movements": counts.movements,
        "outcomes": {outcome.value: number for outcome, number in sorted(counts.outcomes.items())},
        "refusals": rebuilt.refusals,
        "refused_though_applied": rebuilt.new_refusals,
        "movements_by_sql": rebuilt.carried.by_sql if rebuilt.carried else 0,
        "movements_by_sql_dropped": rebuilt.dropped_sql,
        "found": dict(comparison.found) if comparison else {},
        "differences": [asdict(difference) for difference in comparison.differences] if comparison else [],
    }
