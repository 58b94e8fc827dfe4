"""`tallystream asyncapi` describes what the worker takes, in a document that AsyncAPI's own schema accepts."""

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from jsonschema import Draft7Validator

from tests.support.downloads import ROOT, cached
from tests.support.events import EVENT
from tests.support.lacking import skip_for
from tests.support.postgres import Database
from tests.support.program import run_tallystream
from tests.support.versions import ASYNCAPI_SPECS

DECLARATION = ROOT / "schema" / "registers" / "inventory.toml"
ENV = {"TALLYSTREAM_TOPICS": "shop-events,more", "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": "a:9092, b:9092"}


@pytest.fixture(scope="session")
def specification() -> dict[str, Any]:
    """The JSON Schema of AsyncAPI 3.0.0, from the npm registry."""
    if shutil.which("npm") is None:
        skip_for("the schema of AsyncAPI comes from the npm registry, and npm is missing")
    folder = cached(f"asyncapi-specs-{ASYNCAPI_SPECS}", _fetch)
    text = (folder / "package" / "schemas" / "3.0.0-without-$id.json").read_text(encoding="utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def _fetch(folder: Path) -> None:
    command = ["npm", "pack", "--silent", f"@asyncapi/specs@{ASYNCAPI_SPECS}"]
    subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=300)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    archive.unlink()


def described(*arguments: str, env: dict[str, str]) -> dict[str, Any]:
    """What the command prints."""
    document: dict[str, Any] = json.loads(run_tallystream("asyncapi", *arguments, env=env).check().out)
    return document


def test_asyncapi(specification: dict[str, Any]) -> None:
    """The document is valid; its schema of a register takes the register's events and no others."""
    document = described(str(DECLARATION), env=ENV)
    Draft7Validator(specification).validate(document)
    assert [server["host"] for server in document["servers"].values()] == ["a:9092", "b:9092"]
    assert set(document["channels"]) == {"shop-events", "more"}
    message = document["components"]["messages"]["inventory"]
    assert message["bindings"]["kafka"]["key"]["type"] == "string"
    schema = {**message["payload"], "components": document["components"]}
    jsonschema.validate(EVENT, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**EVENT, "movements": [{"product": 1}]}, schema)


def test_of_the_database(database: Database) -> None:
    """Without files it is about the registers that were applied, and says the same of them."""
    env = {**ENV, "TALLYSTREAM_POSTGRES_DSN": database.dsn}
    run_tallystream("register", "apply", str(DECLARATION), env=env).check()
    assert described(env=env) == described(str(DECLARATION), env=ENV)


def test_what_it_needs() -> None:
    """The topics, and where no file is named the database."""
    assert "topics is not set" in run_tallystream("asyncapi", str(DECLARATION), env={}).check(2).err
    assert "postgres_dsn is not set" in run_tallystream("asyncapi", env=ENV).check(2).err
