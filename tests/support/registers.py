"""Registers for database tests: creating them, posting to them, and asking them, over plain SQL."""

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from tests.support.postgres import SCHEMA, Database

DIMENSIONS = [{"name": "warehouse", "type": "int"}, {"name": "lot", "type": "text"}]
RESOURCES = [{"name": "quantity", "type": "numeric(18,3)"}, {"name": "amount", "type": "numeric(18,2)"}]


@dataclass(frozen=True, slots=True)
class Shop:
    """A migrated database, and short ways to the functions of its contract."""

    database: Database
    _session: list[psycopg.Connection] = field(default_factory=list)

    def clear(self) -> None:
        """Drop every register, whatever is in it, and end the session."""
        for (name,) in self.rows("SELECT name FROM register_list()"):
            self.rows("SELECT register_drop(%s, true)", name)
        self._session.pop().close()

    def connect(self, **options: Any) -> psycopg.Connection:  # noqa: ANN401 - psycopg's own options
        """A session that finds the functions without naming their schema."""
        connection = self.database.connect(**options)
        connection.execute(f"SET search_path TO {SCHEMA}, pg_temp")
        if not connection.autocommit:
            connection.commit()
        return connection

    def create(
        self,
        name: str,
        dimensions: Sequence[Mapping[str, str]] = DIMENSIONS,
        resources: Sequence[Mapping[str, str]] = RESOURCES,
        **options: object,
    ) -> None:
        """Create a register; options are named parameters of register_create."""
        named = {"time_zone": "Europe/London", **options}
        extra = "".join(f", {key} => %({key})s" for key in named)
        with self.connect() as connection:
            connection.execute(
                f"SELECT register_create(%(name)s, %(dimensions)s, %(resources)s{extra})",
                {"name": name, "dimensions": Jsonb(dimensions), "resources": Jsonb(resources), **named},
            )

    def ask(self, statement: str, *parameters: object) -> Any:  # noqa: ANN401 - whatever the statement returns
        """The first column of the first row."""
        rows = self.rows(statement, *parameters)
        return rows[0][0] if rows else None

    def rows(self, statement: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows, from the one session that these short ways share."""
        if not self._session:
            self._session.append(self.connect())
        cursor = self._session[0].execute(statement, [_adapted(p) for p in parameters])
        return cursor.fetchall() if cursor.description else []

    def post(self, data: object, register: str = "stock") -> int:
        return int(self.ask("SELECT register_post(%s, %s)", register, Jsonb(data)))

    def unpost(self, recorder: object, register: str = "stock") -> int:
        return int(self.ask("SELECT register_unpost(%s, %s)", register, recorder))

    def repost(self, recorder: object, data: object, register: str = "stock") -> int:
        return int(self.ask("SELECT register_repost(%s, %s, %s)", register, recorder, Jsonb(data)))

    def refusal(self, statement: str, *parameters: object) -> tuple[str | None, str]:
        """The SQLSTATE and the message with which a statement fails."""
        try:
            self.rows(statement, *parameters)
        except psycopg.Error as error:
            return error.sqlstate, error.diag.message_primary or ""
        return None, "nothing was refused"

    def problems(self, register: str = "stock") -> list[tuple[Any, ...]]:
        """What register_verify finds; nothing when all is well."""
        return self.rows("SELECT * FROM register_verify(%s) WHERE status <> 'OK'", register)


def element(
    recorder: str | None, period: str, warehouse: int, lot: str | None, **resources: object
) -> dict[str, object]:
    """One element of register_post for the columns of `stock`."""
    given = {"period": period, "warehouse": warehouse, "lot": lot, **resources}
    return given if recorder is None else {"recorder": recorder, **given}


@contextlib.contextmanager
def reposting(shop: Shop) -> Iterator[list[psycopg.Error]]:
    """Three sessions repost documents of their own, with cells in common, until the block ends; what was refused."""
    errors: list[psycopg.Error] = []
    go_on = threading.Event()
    go_on.set()

    def work(number: int) -> None:
        with shop.connect() as connection:
            while go_on.is_set():
                data = [element(None, f"2026-0{1 + n % 9}-05", n, "x", quantity=n) for n in range(number, 12)]
                try:
                    connection.execute("SELECT register_repost('stock', %s, %s)", [f"r{number}", Jsonb(data)])
                except psycopg.Error as error:
                    errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield errors
    finally:
        go_on.clear()
        for thread in threads:
            thread.join()


def _adapted(parameter: object) -> object:
    return Jsonb(parameter) if isinstance(parameter, dict | list) else parameter
