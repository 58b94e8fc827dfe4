"""Declarations in the database: reading them, and making the database match declarations from files."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, cast

from psycopg.types.json import Jsonb

from ingest.domain.applying import Registry
from ingest.domain.extensions import CHANGEABLE, Extension, plan_extension, switches_off
from ingest.domain.registers import Dimension, Kind, Register, Resource
from ingest.errors import DataError, RegisterError
from ingest.postgres import care
from ingest.postgres.compacting import drain
from ingest.postgres.connections import Connection, Database, translated_errors

if TYPE_CHECKING:
    from datetime import date


def read_registry(database: Database) -> Registry:
    """Read all declarations; the version first, so that a change in between is noticed later."""
    with database.connect() as connection:
        row = connection.execute(database.compose("read_registry_version")).fetchone()
        version = cast("int", row[0]) if row else 0
        rows = connection.execute(database.compose("list_registers")).fetchall()
    return Registry(version, {register.name: register for register in map(as_register, rows)})


def list_names(database: Database) -> list[str]:
    """Return the registers' names; unlike the declarations, readers may know them."""
    with database.connect() as connection:
        rows = connection.execute(database.compose("list_register_names")).fetchall()
    return [cast("str", name) for (name,) in rows]


def apply_registers(database: Database, declared: Iterable[Register]) -> list[tuple[str, str]]:
    """Create or extend registers and return (register, what was done); refuses what would lose something."""
    done: list[tuple[str, str]] = []
    existing = read_registry(database).registers
    declared = tuple(declared)
    for register in declared:
        if register.name in existing and switches_off(existing[register.name], register):
            # The transaction below keeps batches waiting while it folds what is left.
            drain(database, register.name)
    with database.connect() as connection, connection.transaction():
        connection.execute(database.compose("limit_idling"), database.limits)
        for register in declared:
            present = existing.get(register.name)
            if present is None:
                _create(connection, database, register)
                done.append((register.name, "created"))
                continue
            extension, obstacles = plan_extension(present, register)
            if obstacles:
                message = f"register {register.name} exists with another declaration: {'; '.join(obstacles)}"
                raise RegisterError(f"{message}. Nothing was changed")
            if extension:
                _alter(connection, database, register, extension)
            done.append((register.name, extension.describe()))
    return done


def verify_register(database: Database, register: str) -> Sequence[care.Difference]:
    """Compare totals and balances with the movements, in one snapshot; returns the differences."""
    return list(care.verify(database, register).differences)


def _create(connection: Connection, database: Database, register: Register) -> None:
    parameters = {field.name: getattr(register, field.name) for field in fields(register)}
    parameters["kind"] = register.kind.value
    parameters["dimensions"] = Jsonb(as_columns(register.dimensions))
    parameters["resources"] = Jsonb(as_columns(register.resources))
    parameters["subtotals"] = Jsonb(register.subtotals)
    _change(connection, database, "create_register", parameters)


def _alter(connection: Connection, database: Database, register: Register, extension: Extension) -> None:
    options = {name: getattr(register, name) if name in extension.options else None for name in CHANGEABLE}
    if options["subtotals"] is not None:
        options["subtotals"] = Jsonb(register.subtotals)
    parameters = {
        "name": register.name,
        "dimensions": Jsonb(as_columns(extension.dimensions)),
        "resources": Jsonb(as_columns(extension.resources)),
        **options,
    }
    _change(connection, database, "alter_register", parameters)


def _change(connection: Connection, database: Database, statement: str, parameters: dict[str, object]) -> None:
    try:
        with translated_errors():
            connection.execute(database.compose(statement), parameters)
    except DataError as error:
        raise RegisterError(error.detail) from error


def as_columns(columns: Iterable[Dimension | Resource]) -> list[dict[str, str]]:
    """Return columns as the functions of the database take them."""
    return [{"name": column.name, "type": column.type} for column in columns]


def as_register(row: tuple[object, ...]) -> Register:
    """Return a row of declarations as a register."""
    name, kind, dimensions, resources, *rest, subtotals = row
    return Register(
        cast("str", name),
        Kind(cast("str", kind)),
        tuple(Dimension(c["name"], c["type"]) for c in cast("list[dict[str, str]]", dimensions)),
        tuple(Resource(c["name"], c["type"]) for c in cast("list[dict[str, str]]", resources)),
        *cast("tuple[str, str, bool, str, str, bool, date, date, bool]", tuple(rest)),
        subtotals=tuple(cast("list[str]", subtotals)),
    )
