"""`tallystream rebuild`: totals and balances from the movements, or a whole register from its topic."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from ingest.cli.common import output, settings_for, stop_when_told, visible
from ingest.cli.progress import counting, one_by_one
from ingest.cli.registers import read_file, read_files
from ingest.domain.mapping import RegisterMapping
from ingest.domain.mapping_files import read_mapping
from ingest.domain.rebuilding import CellDifference
from ingest.domain.registers import Register
from ingest.errors import SettingsError
from ingest.rebuilder import Choices, Rebuilt, StoppedError
from ingest.settings import Settings
from ingest.wiring import commands, rebuilding

DIFFERENCES_SHOWN = 20


Registers = Annotated[
    list[str] | None, typer.Argument(help="Registers; all when none is named.", metavar="REGISTER...")
]
FromTopic = Annotated[
    bool, typer.Option("--from-topic/--from-movements", help="Replay one register's topic, or add up what is there.")
]
Cell = Annotated[
    int | None, typer.Option(help="From movements: only the balance of the cell with this key; `verify` shows keys.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="From the topic: show what would change, and change nothing.")]
Keep = Annotated[bool, typer.Option("--keep", help="Keep the shadow after a dry run, to go on with it later.")]
Declaration = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="From the topic: declare the register anew; with --dry-run, a what-if."),
]
MappingFile = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="With --dry-run: a what-if, with movements changed by the rules in the file."),
]
DropSqlMovements = Annotated[
    bool, typer.Option("--drop-sql-movements", help="Do not carry over movements that were posted by SQL.")
]
AcceptGap = Annotated[
    bool, typer.Option("--accept-gap", help="Begin where the log does, although earlier events are gone.")
]
AcceptRefusals = Annotated[
    bool, typer.Option("--accept-refusals", help="Make dead letters of applied events that the replay refuses.")
]
Discard = Annotated[bool, typer.Option("--discard", help="Give up a rebuild from the topic that was not finished.")]
Most = Annotated[int, typer.Option(min=0, max=100_000, help="Show at most so many differences.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@dataclass(frozen=True, slots=True)
class Files:
    """What the register is declared as in the shadow, and what its events are changed by."""

    declaration: Path | None
    mapping: Path | None


def rebuild(
    registers: Registers = None,
    *,
    from_topic: FromTopic = False,
    cell: Cell = None,
    dry_run: DryRun = False,
    keep: Keep = False,
    declaration: Declaration = None,
    mapping: MappingFile = None,
    drop_sql_movements: DropSqlMovements = False,
    accept_gap: AcceptGap = False,
    accept_refusals: AcceptRefusals = False,
    discard: Discard = False,
    most: Most = DIFFERENCES_SHOWN,
    as_json: AsJson = False,
) -> None:
    """Make totals and balances what the movements say, or a register what its topic says; the stream goes on.

    Exit code 1 when a dry run finds differences, or when a rebuild was stopped: the same command goes on with it.
    """
    if not from_topic and not discard:
        only = {"--dry-run": dry_run, "--keep": keep, "--declaration": declaration, "--mapping": mapping}
        only |= {"--accept-gap": accept_gap, "--drop-sql-movements": drop_sql_movements}
        _refuse([name for name, given in {**only, "--accept-refusals": accept_refusals}.items() if given])
        _from_movements(registers or [], cell, as_json=as_json)
        return
    if len(registers or []) != 1 or cell is not None:
        raise SettingsError("one register at a time is rebuilt from its topic: name it, and no cell of it")
    [register] = registers or []
    if discard:
        _discard(register)
        return
    choices = Choices(dry_run, keep, drop_sql_movements, accept_gap, accept_refusals, most)
    _from_topic(register, Files(declaration, mapping), choices, as_json=as_json)


def _discard(register: str) -> None:
    settings = settings_for("postgres_dsn")
    commands.choose_registers(settings, [register])
    gone = rebuilding.discard_rebuild(settings, register)
    typer.echo(f"{register}: {'the rebuild was given up' if gone else 'no rebuild from the topic is under way'}")


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


def _mapped(settings: Settings, file: Path, register: str, declared: Register | None) -> RegisterMapping:
    known = declared or commands.read_registers(settings)[register]
    return read_mapping(str(file), read_file(file), known, settings.limits())


def _from_topic(register: str, files: Files, choices: Choices, *, as_json: bool) -> None:
    if files.mapping is not None and not choices.dry_run:
        raise SettingsError(
            "--mapping is a what-if: workers do not know the rules, and the next events would contradict the register."
            " Say --dry-run; to have it so, let the producers send it so, and repost the documents of before"
        )
    settings = settings_for("postgres_dsn", "kafka_bootstrap_servers")
    commands.choose_registers(settings, [register])
    declaration = None if files.declaration is None else _declared(files.declaration, register)
    mapping = None if files.mapping is None else _mapped(settings, files.mapping, register, declaration)
    with counting(f"rebuilding {register}") as report:
        rebuilder = rebuilding.build_rebuilder(settings, register, declaration, mapping, report)
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
    for number, movements in sorted(_by_rule(rebuilt).items()):
        typer.echo(f"  rule {number} of the mapping: {movements:,} movements")
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


def _by_rule(rebuilt: Rebuilt) -> dict[int, int]:
    """Movements that each rule of the mapping has chosen: none is news too."""
    mapping = rebuilt.shadow.mapping
    return {} if mapping is None else {n: rebuilt.replayed.mapped[n] for n in range(1, len(mapping.rules) + 1)}


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
        "movements_by_rule": _by_rule(rebuilt),
        "refusals": rebuilt.refusals,
        "refused_though_applied": rebuilt.new_refusals,
        "movements_by_sql": rebuilt.carried.by_sql if rebuilt.carried else 0,
        "movements_by_sql_dropped": rebuilt.dropped_sql,
        "found": dict(comparison.found) if comparison else {},
        "differences": [asdict(difference) for difference in comparison.differences] if comparison else [],
    }
