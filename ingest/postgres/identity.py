"""Which server this is, and as whom: what a process must not overlook when a name leads somewhere else.

A fail-over keeps the system identifier and raises the timeline. Another identifier is another database, whose positions
mean nothing here; a lower timeline is a primary that was replaced, and what is written to it is lost. Only the process
itself remembers what it has seen: two primaries at once are for the administrator to prevent.
"""

from dataclasses import dataclass
from typing import cast

import psycopg
import structlog

from ingest.errors import OperatorError, TransientError
from ingest.postgres.connections import Connection, Database

_TIMELINE_DIGITS = 8

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Identity:
    """The server that a process has written to, so far as its role may know."""

    system_identifier: int | None = None
    timeline: int = 0

    def check(self, connection: Connection, database: Database) -> None:
        """Fail when this is not the server of before, or one that was promoted from it."""
        try:
            row = connection.execute(database.compose("identify_server")).fetchone()
        except psycopg.errors.InsufficientPrivilege:
            return
        identifier, log_file = cast("tuple[int, str]", row)
        timeline = int(log_file[:_TIMELINE_DIGITS], 16)
        if self.system_identifier not in {None, identifier}:
            message = (
                f"this is another PostgreSQL server: its system identifier is {identifier}, and was"
                f" {self.system_identifier}. Nothing was written to it; start anew if that is meant"
            )
            raise OperatorError(message)
        if timeline < self.timeline:
            message = (
                f"this PostgreSQL server was replaced as primary: its timeline is {timeline}, and {self.timeline} was"
                " seen. Nothing is written to it; waiting for the present primary"
            )
            raise TransientError(message)
        self.system_identifier, self.timeline = identifier, timeline


def check_role(database: Database, *, allow_privileged: bool) -> None:
    """Refuse a role that may do more than batches need: nothing would stop a mistake, or whoever gets hold of it."""
    with database.connect() as connection:
        found = connection.execute(database.compose("describe_role"), {"schema": database.schema}).fetchall()
    for role, is_superuser, bypasses, owns in cast("list[tuple[str, bool, bool, bool]]", found):
        if not (is_superuser or bypasses or owns):
            continue
        power = "is a superuser" if is_superuser else "has BYPASSRLS" if bypasses else "owns tables of the schema"
        if not allow_privileged:
            message = (
                f"the role {role} {power}, and workers and the compactor need none of that: connect as"
                " tallystream_ingest (CREATE ROLE tallystream_ingest LOGIN, and migrate again for its grants), or set"
                " allow_privileged_role where it does not matter, as on a laptop"
            )
            raise OperatorError(message)
        _log.warning("this role may do more than workers and the compactor need, and is allowed to", role=role)
