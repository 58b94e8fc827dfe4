"""Connections, and what an error of theirs means: retry the batch, refuse the event, or stop.

Nothing here depends on a session's settings, so that a pooler in transaction mode may stand between.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, TypeAlias

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from ingest.errors import (
    DataError,
    LoginRefusedError,
    MigrationError,
    OperatorError,
    SettingsError,
    TallystreamError,
    TransientError,
)
from ingest.postgres.listening import ListeningConnection
from ingest.postgres.statements import compose

Connection: TypeAlias = psycopg.Connection[tuple[object, ...]]
Cursor: TypeAlias = psycopg.Cursor[tuple[object, ...]]

# An undefined schema, table or function: nobody migrated, or the name is wrong.
NOT_INSTALLED: Final = frozenset({"3F000", "42P01", "42883"})
# 08 connection, 25006 read-only server, 40 rollback, 53 resources, 55 locks and state, 57 intervention, 58 system.
TRANSIENT_CLASSES: Final = frozenset({"08", "25", "40", "53", "55", "57", "58"})
# 21 two cells with one key, 22 data, 23 constraints, TS our own functions: the same data would fail again.
DATA_CLASSES: Final = frozenset({"21", "22", "23", "TS"})
# Also where a row finds no partition.
CHECK_VIOLATION: Final = "23514"
# Words of a server that does not let somebody in, or is not the one that was meant: libpq tells no SQLSTATE of what is
# said before a session begins.
LOGIN_REFUSED: Final = re.compile(
    r"(?:password|peer|ident|certificate|GSSAPI|LDAP|PAM) authentication failed|no password supplied"
    r"|no pg_hba\.conf entry|(?:role|database) \".*\" does not exist|no such (?:user|database)"
    r"|permission denied for database|is not permitted to log in"
    r"|server certificate for .* does not match host name|certificate verify failed|server does not support SSL"
    r"|alert (?:unknown ca|(?:bad |no )?certificate)|(?:certificate|private key) file \".*\" "
)
INSUFFICIENT_PRIVILEGE: Final = "42501"
# A value too long for an index that somebody made. The rest of class 54 says nothing about the data.
PROGRAM_LIMIT_EXCEEDED: Final = "54000"


@dataclass(frozen=True, slots=True)
class Database:
    """Where the product's schema is, and how long to wait for things there."""

    dsn: str
    schema: str = "accum"
    connect_timeout_ms: int = 10_000
    statement_timeout_ms: int = 120_000
    lock_timeout_ms: int = 10_000
    maintenance_timeout_ms: int = 3_600_000
    application_name: str = "tallystream"
    # None where statements may take as long as they like.
    answer_timeout_ms: int | None = None
    # Another class may watch what is sent, or have it fail.
    connection_class: type[Connection] = ListeningConnection

    @property
    def limits(self) -> dict[str, int]:
        """The parameters of `limit_waiting`."""
        return {
            "statement_timeout_ms": self.statement_timeout_ms,
            "lock_timeout_ms": self.lock_timeout_ms,
            # Between statements a process that lives takes no longer than within one.
            "idle_timeout_ms": self.statement_timeout_ms,
        }

    @property
    def patient_limits(self) -> dict[str, int]:
        """The same for statements that read a whole register."""
        return {**self.limits, "statement_timeout_ms": self.maintenance_timeout_ms}

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        """Open a connection and close it; errors of the driver leave as errors of ours."""
        with translated_errors():
            connection = self.open()
            try:
                yield connection
            finally:
                connection.close()

    def open(self) -> Connection:
        """Open a connection to a server that takes writes; the caller closes it."""
        connection = self.connection_class.connect(
            self.dsn,
            autocommit=True,
            # A pooler may give every transaction another server connection, which knows no prepared statements.
            prepare_threshold=None,
            connect_timeout=max(1, self.connect_timeout_ms // 1000),
            application_name=self.application_name,
            target_session_attrs="read-write",
            keepalives_idle=30,
            keepalives_interval=10,
            keepalives_count=3,
            tcp_user_timeout=self.statement_timeout_ms,
            # Not what the role or the database was given: every text of an event has to be expressible.
            client_encoding="utf8",
        )
        # Said in every BEGIN, because a role may default to something else: a statement here has to see what was
        # committed while it waited for a lock.
        connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        if self.answer_timeout_ms is not None and isinstance(connection, ListeningConnection):
            connection.answer_within_s = self.answer_timeout_ms / 1000
        try:
            connection.execute(self.compose("speak_iso"))
        except BaseException:
            connection.close()
            raise
        return connection

    def compose(self, name: str, **parts: sql.Composable) -> sql.Composed:
        """Return a named statement with this schema filled in."""
        return compose(name, schema=sql.Identifier(self.schema), **parts)

    def table(self, name: str) -> sql.Identifier:
        """Return the qualified name of a table of this schema."""
        return sql.Identifier(self.schema, name)


@dataclass(slots=True)
class KeptConnection:
    """One connection that is kept from call to call, and opened anew where it is closed or broke."""

    database: Database
    _connection: Connection | None = None

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None or self._connection.closed:
            self._connection = self.database.open()
        return self._connection


def check_dsn(dsn: str) -> None:
    """Fail early, without repeating the DSN, when it cannot be parsed."""
    try:
        conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        message = "TALLYSTREAM_POSTGRES_DSN is not a connection string; write postgresql://user@host/database"
        raise SettingsError(message) from None


@contextmanager
def translated_errors() -> Iterator[None]:
    """Raise errors of the driver as errors that say what to do."""
    try:
        yield
    except psycopg.Error as error:
        raise translate(error) from error


def translate(error: psycopg.Error) -> TallystreamError:
    """Say what an error of the driver means; the DETAIL, which quotes rows, stays behind."""
    sqlstate = error.sqlstate
    text = error.diag.message_primary or " ".join(str(error).split()) or type(error).__name__
    hint = f" ({error.diag.message_hint})" if error.diag.message_hint else ""
    if sqlstate is None:
        # The client's own errors: values that it cannot send are data, everything else is the connection.
        if LOGIN_REFUSED.search(text):
            return LoginRefusedError(f"{text}; correct postgres_dsn, or what the server allows")
        return DataError("", text) if isinstance(error, psycopg.DataError) else TransientError(text)
    if sqlstate[:2] in TRANSIENT_CLASSES:
        return TransientError(f"{text} (SQLSTATE {sqlstate})")
    if sqlstate[:2] in DATA_CLASSES or sqlstate == PROGRAM_LIMIT_EXCEEDED:
        return DataError(sqlstate, text + hint)
    if sqlstate in NOT_INSTALLED:
        return MigrationError(f"{text}; run `tallystream migrate`, or correct schema_name (SQLSTATE {sqlstate})")
    if sqlstate == INSUFFICIENT_PRIVILEGE:
        hint += "; docs/privileges.md says which rights a role needs"
    return OperatorError(f"PostgreSQL refused: {text} (SQLSTATE {sqlstate}){hint}")
