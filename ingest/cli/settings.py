"""`tallystream settings`: what is in force, and where each value comes from."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated

import typer
from pydantic import SecretStr

from ingest.cli.common import loaded_settings
from ingest.domain.redaction import HIDDEN, names_secret, without_secrets
from ingest.kafka.options import check_bootstrap_servers, check_options
from ingest.settings import Loaded, Settings

DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    value: object
    origin: str
    description: str


def show(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Print all settings in force, where each was set, and what it means; secrets are hidden."""
    loaded = loaded_settings()
    check_options(loaded.settings.kafka_options)
    if loaded.settings.kafka_bootstrap_servers:
        check_bootstrap_servers(loaded.settings.kafka_bootstrap_servers)
    rows = list(_rows(loaded))
    if as_json:
        typer.echo(json.dumps({row.name: _without_name(row) for row in rows}, indent=2, ensure_ascii=False))
        return
    names = max(len(row.name) for row in rows)
    values = min(60, max(len(_text(row.value)) for row in rows))
    for row in rows:
        typer.echo(f"{row.name:<{names}} = {_text(row.value):<{values}}  {row.origin}".rstrip())


def _rows(loaded: Loaded) -> Iterator[_Row]:
    for name, field in Settings.model_fields.items():
        value = getattr(loaded.settings, name)
        description = field.description or ""
        origin = loaded.origins.get(name, DEFAULT)
        if name == "kafka_options":
            for option, text in sorted(value.items()):
                full = f"{name}.{option}"
                shown = HIDDEN if names_secret(option) else text
                yield _Row(full, shown, loaded.origins.get(full, origin), description)
        else:
            yield _Row(name, _shown(value), origin, description)


def _shown(value: object) -> object:
    if isinstance(value, SecretStr):
        return without_secrets(value.get_secret_value())
    return list(value) if isinstance(value, tuple) else value


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _without_name(row: _Row) -> dict[str, object]:
    return {name: value for name, value in asdict(row).items() if name != "name"}
