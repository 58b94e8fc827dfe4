"""Looking after registers: comparing what is derived with the movements, mending it, sizes, and partitions.

Readers and the stream go on meanwhile. Only detaching a partition holds batches up, so it is done one by one, each in
a transaction of its own.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from functools import partial
from typing import Any, cast

from psycopg import sql
from psycopg.types.json import set_json_loads

from ingest.domain.registers import Kind
from ingest.errors import DataError, RegisterError
from ingest.postgres.connections import Connection, Database

OK = "OK"


@dataclass(frozen=True, slots=True)
class Difference:
    """One row of a verification that is not OK."""

    check: str
    dim_hash: int
    period: date | None
    expected: Mapping[str, Decimal] | None
    actual: Mapping[str, Decimal] | None
    status: str
    cell: Mapping[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What was compared, how many differences of each check and status there are, and the first of them."""

    register: str
    checks: tuple[str, ...]
    found: Mapping[tuple[str, str], int]
    differences: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """How many rows of totals and of balances were not what the movements say."""

    register: str
    totals: int
    balances: int


@dataclass(frozen=True, slots=True)
class Partition:
    """One partition of a register's movements; attached ones count their movements by estimate."""

    name: str
    from_date: date
    before_date: date
    state: str
    movements: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Detached:
    """A partition that left its register."""

    name: str
    movements: int


def verify(database: Database, register: str, most: int | None = None) -> Verification:
    """Compare totals and balances with the movements in one snapshot; keeps the first differences, counts them all."""
    checks: dict[str, None] = {}
    found: Counter[tuple[str, str]] = Counter()
    differences: list[Difference] = []
    with _patient(database) as connection, connection.cursor() as cursor:
        set_json_loads(_read_exactly, cursor)
        # Row by row: derived tables that are all wrong have as many differences as rows.
        for row in cursor.stream(database.compose("verify_register"), {"register": register}):
            difference = Difference(*cast("tuple[str, int, None, None, None, str]", row))
            checks[difference.check] = None
            if difference.status != OK:
                found[difference.check, difference.status] += 1
                if most is None or len(differences) < most:
                    differences.append(difference)
        cells = _describe_cells(connection, database, register, {difference.dim_hash for difference in differences})
    described = (replace(difference, cell=cells.get(difference.dim_hash)) for difference in differences)
    return Verification(register, tuple(checks), found, tuple(described))


def _describe_cells(
    connection: Connection, database: Database, register: str, dim_hashes: Collection[int]
) -> dict[int, Mapping[str, object] | None]:
    """Return the dimensions of the cells with these keys, as far as anything still says what they are."""
    if not dim_hashes:
        return {}
    row = connection.execute(database.compose("read_dimensions"), {"register": register}).fetchone()
    if row is None:
        return {}
    kind, dimensions = cast("tuple[str, list[str]]", row)
    parts = {
        "dimensions": sql.SQL(", ").join(map(sql.Identifier, dimensions)),
        "journal": database.table(f"{register}_journal"),
        "totals": database.table(f"{register}_turnovers_year"),
        "balances": database.table(f"{register}_{'balances' if kind == Kind.BALANCE else 'turnovers_year'}"),
    }
    with connection.cursor() as cursor:
        set_json_loads(partial(json.loads, parse_float=Decimal), cursor)
        rows = cursor.execute(
            database.compose("describe_cells", **parts), {"dim_hashes": sorted(dim_hashes)}
        ).fetchall()
    return dict(cast("list[tuple[int, Mapping[str, object] | None]]", rows))


def _read_exactly(text: str | bytes) -> object:
    return json.loads(text, parse_float=Decimal, parse_int=Decimal)


def rebuild(database: Database, register: str, dim_hash: int | None = None) -> Rebuilt:
    """Make totals and balances what the movements say; with the key of a cell, only that cell's balance."""
    totals = 0
    if dim_hash is None:
        totals = _number(database, "rebuild_totals", {"register": register})
    balances = _number(database, "rebuild_cache", {"register": register, "dim_hash": dim_hash})
    return Rebuilt(register, totals, balances)


def read_stats(database: Database, register: str) -> dict[str, Any]:
    """Return the sizes of a register as `register_stats()` has them."""
    return cast("dict[str, Any]", _single(database, "register_stats", {"register": register}))


def list_partitions(database: Database, register: str) -> Sequence[Partition]:
    """Return the partitions of a register's movements, attached and detached, oldest first."""
    with _patient(database) as connection:
        rows = connection.execute(database.compose("list_partitions"), {"register": register}).fetchall()
    return [Partition(*row) for row in cast("list[tuple[str, date, date, str, int, int]]", rows)]


def create_partitions(database: Database, register: str, ahead: str) -> int:
    """Make the partitions from today to an interval ahead that are missing; returns how many."""
    return _number(database, "create_partitions", {"register": register, "ahead": ahead})


def detach_partitions(database: Database, register: str, older_than: str) -> Iterator[Detached]:
    """Detach the partitions that ended before an interval ago, oldest first, and yield each when it is committed."""
    parameters = {"register": register, "older_than": older_than}
    while True:
        with _patient(database) as connection:
            row = connection.execute(database.compose("detach_oldest_partition"), parameters).fetchone()
        if row is None:
            return
        yield Detached(*cast("tuple[str, int]", row))


def _number(database: Database, statement: str, parameters: Mapping[str, object]) -> int:
    return cast("int", _single(database, statement, parameters))


def _single(database: Database, statement: str, parameters: Mapping[str, object]) -> object:
    with _patient(database) as connection:
        row = connection.execute(database.compose(statement), parameters).fetchone()
    return row[0] if row else None


@contextmanager
def _patient(database: Database) -> Iterator[Connection]:
    """A transaction whose statements may take as long as a big register needs; what it is refused for is a message."""
    try:
        with database.connect() as connection, connection.transaction():
            connection.execute(database.compose("limit_waiting"), database.patient_limits)
            yield connection
    except DataError as error:
        raise RegisterError(error.detail) from error
