"""`tallystream asyncapi`: describes the topics and their events to producers and their tools."""

import json
from pathlib import Path
from typing import Annotated

import typer

from ingest import __version__
from ingest.cli.common import loaded_settings
from ingest.cli.registers import read_files
from ingest.domain.asyncapi import asyncapi as document_of
from ingest.wiring import commands

Files = Annotated[
    list[Path] | None,
    typer.Argument(
        help="TOML files with tables register.NAME; without one, what the database has.", metavar="[FILE...]"
    ),
]


def asyncapi(files: Files = None) -> None:
    """Print an AsyncAPI 3 document of the topics, as JSON, with the schema of each register's events."""
    settings = loaded_settings().settings
    settings.require("topics")
    if files:
        registers = read_files(files)
    else:
        settings.require("postgres_dsn")
        registers = tuple(commands.read_registers(settings).values())
    brokers = [broker.strip() for broker in settings.kafka_bootstrap_servers.split(",") if broker.strip()]
    document = document_of(registers, settings.topics, brokers, __version__, settings.limits())
    typer.echo(json.dumps(document, indent=2, ensure_ascii=False))
