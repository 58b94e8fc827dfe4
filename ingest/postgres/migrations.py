"""Installs the product's schema: numbered migrations once, then functions and templates whenever they changed.

All of it is one transaction under an advisory lock, so an interrupted migration leaves nothing behind and many
processes may start one at the same time.
"""

import hashlib
from collections.abc import Iterator
from typing import Final, cast

import psycopg
from psycopg import sql

from ingest import resources
from ingest.errors import MigrationError
from ingest.postgres.connections import Connection, Database

FUNCTIONS: Final = "functions"
"""The row of `_migrations` that holds the digest of all functions and templates."""

GRANTS: Final = "grants to new roles"
"""What is reported when a role was made after everything else."""

GOLDEN_HASHES: Final = (-1871201132023588884, 1583228569280423316, 4077164785057419784, 3616145634334850008)


def migrate(database: Database) -> list[str]:
    """Bring the schema up to date; returns the names of what was applied, in order."""
    applied: list[str] = []
    with database.connect() as connection, connection.transaction():
        connection.execute(database.compose("limit_idling"), database.limits)
        connection.execute(database.compose("lock_migrations"), {"schema": database.schema})
        _become_owner(connection, database)
        connection.execute(database.compose("enter_schema"), {"schema": database.schema})
        connection.execute(database.compose("create_migrations"))
        known = _known(connection, database)
        _refuse_newer(known)
        for name, text in _migrations():
            digest = _digest(text)
            if name not in known:
                connection.execute(text.encode())
                _record(connection, database, name, digest)
                applied.append(name)
            elif known[name] != digest:
                message = f"migration {name} was applied with another content; restore its file and migrate again"
                raise MigrationError(message)
        digest = _functions_digest()
        if known.get(FUNCTIONS) != digest:
            _install_functions(connection, database)
            _record(connection, database, FUNCTIONS, digest)
            applied.append(FUNCTIONS)
        elif _single(connection, database, "grant_new_roles"):
            applied.append(GRANTS)
    return applied


def check(database: Database) -> None:
    """Fail unless the schema is exactly the one that this program was built with."""
    with database.connect() as connection:
        if not _single(connection, database, "migrations_exist"):
            raise MigrationError(
                f"schema {database.schema} has no tallystream tables; "
                "run `tallystream migrate` first, or correct schema_name"
            )
        known = _known(connection, database)
        _refuse_newer(known)
        missing = [name for name, _ in _migrations() if name not in known]
        if missing or known.get(FUNCTIONS) != _functions_digest():
            what = ", ".join(missing) or "the functions of this version"
            message = f"schema {database.schema} lacks {what}; run `tallystream migrate` first"
            raise MigrationError(message)
        row = connection.execute(database.compose("hash_golden_rows")).fetchone()
        if row != GOLDEN_HASHES:
            message = "this PostgreSQL server computes other cell keys than the stored ones; do not write with it"
            raise MigrationError(message)


def _become_owner(connection: Connection, database: Database) -> None:
    """Create the schema if it is missing; act for its owner from here on, so that everything in it is one role's."""
    owner = _single(connection, database, "schema_owner")
    if owner is None:
        owner = _single(connection, database, "choose_owner")
        connection.execute(database.compose("create_schema", owner=sql.Identifier(str(owner))))
    try:
        connection.execute(database.compose("become_owner"), {"owner": owner})
    except psycopg.errors.InsufficientPrivilege:
        message = f"schema {database.schema} belongs to the role {owner}; migrate as that role, or as a member of it"
        raise MigrationError(message) from None


def _refuse_newer(known: dict[str, str]) -> None:
    newer = sorted(set(known) - {name for name, _ in _migrations()} - {FUNCTIONS})
    if newer:
        message = f"the database was migrated by a newer tallystream ({', '.join(newer)}); use that version"
        raise MigrationError(message)


def _install_functions(connection: Connection, database: Database) -> None:
    connection.execute(database.compose("clear_templates"))
    for file in resources.files_in(resources.sql() / "register", ".sql"):
        parameters = {"name": file.name.removesuffix(".sql"), "body": file.read_text(encoding="utf-8")}
        connection.execute(database.compose("store_template"), parameters)
    for text in _function_files():
        connection.execute(text.encode())
    connection.execute(database.compose("renew_registers"))


def _migrations() -> Iterator[tuple[str, str]]:
    for file in resources.files_in(resources.schema() / "migrations", ".sql"):
        yield file.name.removesuffix(".sql"), file.read_text(encoding="utf-8")


def _function_files() -> Iterator[str]:
    for folder in ("internal", "api"):
        for file in resources.files_in(resources.sql() / folder, ".sql"):
            yield file.read_text(encoding="utf-8")


def _functions_digest() -> str:
    templates = (file.read_text(encoding="utf-8") for file in resources.files_in(resources.sql() / "register", ".sql"))
    return _digest("\0".join([*templates, *_function_files()]))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _known(connection: Connection, database: Database) -> dict[str, str]:
    rows = connection.execute(database.compose("list_migrations")).fetchall()
    return {cast("str", name): cast("str", digest) for name, digest in rows}


def _record(connection: Connection, database: Database, name: str, digest: str) -> None:
    connection.execute(database.compose("record_migration"), {"name": name, "digest": digest})


def _single(connection: Connection, database: Database, statement: str) -> object:
    row = connection.execute(database.compose(statement), {"schema": database.schema}).fetchone()
    return row[0] if row else None
