"""The end: everything was applied, each event once, and every number is what an oracle makes of the log."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any, TypeAlias

import confluent_kafka as ck

from ingest.domain.registers import Kind, Register
from tests.support.oracle import Object, Oracle
from tests.support.waiting import wait_until
from tests.torture.load import OVERFLOWING, REGISTERS
from tests.torture.stage import PARTITIONS, Stage

Row: TypeAlias = tuple[Any, ...]

CAUGHT_UP_TIMEOUT_S = 180
READ_TIMEOUT_S = 60
PERIODS: Mapping[str, Callable[[date], date]] = {
    "day": lambda day: day,
    "month": lambda day: day.replace(day=1),
    "year": lambda day: day.replace(month=1, day=1),
}


@dataclass(slots=True)
class Verdict:
    """What was found."""

    events: int
    cells: int
    outcomes: Counter[str]
    replaced: int
    problems: list[str]


@dataclass
class _Watching(Oracle):
    """Notes how often a document's movements were replaced: deletions that waited for insertions to fold with them."""

    replaced: int = 0

    def _hear(self, event: Object) -> str:
        had_lines = bool(self.recorders[event["register"], event["recorder"]].lines)
        outcome = super()._hear(event)
        self.replaced += outcome == "applied" and had_lines and event["type"] == "repost" and bool(event["movements"])
        return outcome


def wait_until_read(stage: Stage, look: Callable[[], None]) -> None:
    """Until every record is behind the positions; `look` keeps the crew alive meanwhile."""

    def is_read() -> bool:
        look()
        positions = stage.positions()
        return all(positions.get(partition, 0) >= end for partition, end in stage.end().items() if end)

    wait_until(is_read, CAUGHT_UP_TIMEOUT_S, "the whole log is applied after the last mishap")


def judge(stage: Stage) -> Verdict:
    """Compare everything: cells, days, months, years, movements, counts, dead letters, books."""
    values = list(_log(stage))
    oracle = _Watching(overflowing=frozenset(_overflowing(values)), registers=REGISTERS)
    for value in values:
        oracle.read(value)
    problems: list[str] = []
    cells = 0
    for name, register in REGISTERS.items():
        tables = {
            f"{name}_movements": (
                oracle.movements(name),
                Counter(_rows(stage, register, "movements", "recorder, period")),
            )
        }
        derived = {
            f"{name}_totals_{grain}": (oracle.sums(name, start), _sums(stage, register, f"totals_{grain}", "period"))
            for grain, start in PERIODS.items()
        }
        if register.kind is Kind.BALANCE:
            derived[f"{name}_balances"] = oracle.sums(name, lambda _: None), _sums(stage, register, "balance_cache")
        for table, (expected, found) in (tables | derived).items():
            problems += _differences(table, expected, found)
            cells += len(expected)
    problems += _books(stage, oracle)
    return Verdict(len(values), cells, oracle.outcomes, oracle.replaced, problems)


def _log(stage: Stage) -> Iterator[bytes]:
    """Every record, partition by partition."""
    consumer = stage.consumer()
    try:
        for partition, end in stage.end().items():
            consumer.assign([ck.TopicPartition(stage.topic, partition, 0)])
            read = 0
            while read < end:
                found = consumer.consume(min(1000, end - read), READ_TIMEOUT_S)
                assert found, f"partition {partition}: nothing after offset {read} of {end}"
                for record in found:
                    assert record.error() is None, record.error()
                    yield record.value() or b""
                read = (found[-1].offset() or 0) + 1
    finally:
        consumer.close()


def _overflowing(values: list[bytes]) -> Iterator[str]:
    for value in values:
        if b'"id": "' + OVERFLOWING.encode() in value:
            yield value.split(b'"id": "', 1)[1].split(b'"', 1)[0].decode()


def _rows(stage: Stage, register: Register, table: str, first: str = "") -> list[Row]:
    columns = [
        *([first] if first else []),
        *(c.name for c in register.dimensions),
        *(c.name for c in register.resources),
    ]
    with stage.connect() as connection:
        statement = f"SELECT {', '.join(columns)} FROM accum.{register.name}_{table}"  # noqa: S608 - declared names
        return connection.execute(statement.encode()).fetchall()


def _sums(stage: Stage, register: Register, table: str, first: str = "") -> dict[Row, Row]:
    width = len(register.dimensions) + bool(first)
    found = {row[:width]: row[width:] for row in _rows(stage, register, table, first)}
    return {key: tuple(map(Decimal, sums)) for key, sums in found.items() if any(sums)}


def _differences(table: str, expected: Mapping[Row, object], found: Mapping[Row, object]) -> list[str]:
    keys = expected.keys() | found.keys()
    wrong = [(key, expected.get(key), found.get(key)) for key in keys if expected.get(key) != found.get(key)]
    return [f"{table}: {len(wrong)} differ, such as (key, expected, found) {wrong[:3]}"] if wrong else []


def _books(stage: Stage, oracle: Oracle) -> list[str]:
    problems = []
    with stage.connect(options="-c search_path=accum") as connection:
        counted = connection.execute(
            "SELECT sum(applied)::int, sum(duplicates)::int, sum(stale)::int, sum(dead_letters)::int FROM _batches"
        ).fetchone()
        refused = {
            reason: n for reason, n in oracle.outcomes.items() if reason not in {"applied", "duplicate", "stale"}
        }
        expected = (*(oracle.outcomes[kind] for kind in ("applied", "duplicate", "stale")), sum(refused.values()))
        if counted != expected:
            problems.append(f"applied, duplicates, stale, dead letters: {counted}, expected {expected}")
        letters: dict[str, int] = dict(
            connection.execute("SELECT reason, count(*)::int FROM _dead_letters GROUP BY 1").fetchall()
        )
        if letters != refused:
            problems.append(f"dead letters {letters}, expected {refused}")
        gaps = connection.execute(
            "SELECT position_id, first_offset, reached FROM (SELECT position_id, first_offset,"
            " lag(next_offset, 1, 0::bigint) OVER (PARTITION BY position_id ORDER BY first_offset) AS reached"
            " FROM _batches) AS b WHERE first_offset <> reached"
        ).fetchall()
        if gaps:
            problems.append(f"batches of a partition with a gap or an overlap: {gaps[:5]}")
        for name in REGISTERS:
            wrong = connection.execute("SELECT * FROM register_verify(%s) WHERE status <> 'OK'", (name,)).fetchall()
            if wrong:
                problems.append(f"register_verify({name}): {len(wrong)} rows, such as {wrong[:2]}")
        left = connection.execute("SELECT count(*) FROM heaps_balance_cache_delta").fetchone()
        if left != (0,):
            problems.append(f"{left} deltas are left after everything was folded")
        unrelayed = connection.execute("SELECT count(*) FROM _dead_letters WHERE relayed_at IS NULL").fetchone()
        if unrelayed != (0,):
            problems.append(f"{unrelayed} dead letters were not relayed")
    if stage.positions().keys() - set(range(PARTITIONS)):
        problems.append("positions of partitions that do not exist")
    return problems
