"""Named failpoints: every statement that the product sends, BEGIN and COMMIT, and the inside of a COPY.

A connection class that tells `Failpoints` what is about to be sent. It is given to the product's `Database`, so that
nothing in the product knows of it; a point lies before the statement of its name.

    failpoints = Failpoints()
    access = Database(dsn, connection_class=watched(failpoints))
    ...
    failpoints.seen                       # ["speak_iso", "BEGIN", "limit_waiting", …]
"""

import re
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

import psycopg
from psycopg import sql

from ingest import resources
from ingest.postgres.connections import Connection
from ingest.postgres.statements import statements

Act = Callable[[str, Connection], None]

BEGIN: Final = "BEGIN"
COMMIT: Final = "COMMIT"
COMMITTED: Final = "committed"
ROLLED_BACK: Final = "rolled back"

_PART = re.compile(r"\{[a-z_]+\}")


class Failpoints:
    """Remembers which points were come to; at the one with the given number it acts, once."""

    def __init__(self, at: int | None = None, act: Act | None = None) -> None:
        self.seen: list[str] = []
        self._at = at
        self._act = act
        self._lock = threading.Lock()

    def reach(self, name: str, connection: Connection) -> None:
        with self._lock:
            number = len(self.seen)
            self.seen.append(name)
        if number == self._at and self._act is not None:
            self._act(name, connection)


@cache
def name_of(text: str) -> str:
    """The name under which a statement is known; files of the schema are named like the files."""
    for name, pattern in _patterns().items():
        if pattern.fullmatch(text):
            return name
    return _files().get(text) or f"unnamed: {text[:60]}"


@cache
def _patterns() -> dict[str, re.Pattern[str]]:
    return {
        name: re.compile(".+?".join(map(re.escape, _PART.split(statement.text))), re.DOTALL)
        for name, statement in statements().items()
    }


@cache
def _files() -> dict[str, str]:
    folders = [resources.schema() / "migrations", resources.sql() / "internal", resources.sql() / "api"]
    files = [file for folder in folders for file in resources.files_in(folder, ".sql")]
    return {file.read_text(encoding="utf-8"): file.name for file in files}


def watched(failpoints: Failpoints) -> type[Connection]:
    """A connection class whose cursors and transactions come to failpoints."""

    class WatchedCursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, params: Any = None, **options: Any) -> Any:  # noqa: ANN401 - psycopg's own
            self._reach(query)
            return super().execute(query, params, **options)

        def executemany(self, query: Any, params_seq: Iterable[Any], **options: Any) -> None:  # noqa: ANN401
            for params in params_seq:
                self._reach(query)
                super().executemany(query, [params], **options)

        @contextmanager
        def copy(self, statement: Any, params: Any = None, **options: Any) -> Iterator[Any]:  # noqa: ANN401
            name = self._reach(statement)
            with super().copy(statement, params, **options) as copy:
                failpoints.reach(f"{name}: rows", self.connection)
                yield copy
                failpoints.reach(f"{name}: end", self.connection)

        def _reach(self, query: Any) -> str:  # noqa: ANN401 - psycopg's own
            composed = isinstance(query, sql.Composable)
            name = name_of(query.as_string(self.connection) if composed else query.decode())
            failpoints.reach(name, self.connection)
            return name

    class WatchedConnection(psycopg.Connection[Any]):
        def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401 - psycopg's own
            super().__init__(*arguments, **options)
            self.cursor_factory = WatchedCursor

        @contextmanager
        def transaction(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Transaction]:  # noqa: ANN401
            failpoints.reach(BEGIN, self)
            done = False
            with super().transaction(*arguments, **options) as transaction:
                yield transaction
                failpoints.reach(COMMIT, self)
                done = True
            failpoints.reach(COMMITTED if done else ROLLED_BACK, self)

    return WatchedConnection
