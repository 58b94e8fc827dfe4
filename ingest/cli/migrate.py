"""`tallystream migrate`: install or update the schema."""

import typer

from ingest.cli.common import settings_for
from ingest.wiring import commands


def migrate() -> None:
    """Install the schema in PostgreSQL, or bring it up to this version. Safe to repeat and to run several at once."""
    settings = settings_for("postgres_dsn")
    applied = commands.migrate(settings)
    for name in applied:
        typer.echo(f"applied {name}")
    if not applied:
        typer.echo(f"schema {settings.schema_name} is up to date")
