"""Lets nobody wait for a process that stands still in the middle of a transaction.

PostgreSQL's own time-outs miss it within a COPY, within a pipeline, and after one: they are for sessions that execute,
or that have answered everything they were asked.
"""

from ingest.postgres.connections import Connection, Database


def end_hung_sessions(connection: Connection, database: Database) -> None:
    """End sessions of this program that have waited for their process for longer than a statement may take."""
    parameters = {"application_name": database.application_name, "after_ms": database.statement_timeout_ms}
    connection.execute(database.compose("end_hung_sessions"), parameters)
