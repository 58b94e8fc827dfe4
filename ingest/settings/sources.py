"""Where settings come from: the environment first, then a TOML file, then the defaults.

    TALLYSTREAM_GROUP=a                             a setting
    TALLYSTREAM_POSTGRES_DSN_FILE=/run/secrets/dsn  the same, its value in a file
    TALLYSTREAM_KAFKA_OPTION_SASL_MECHANISM=PLAIN   the entry sasl.mechanism of kafka_options
    TALLYSTREAM_CONFIG=/etc/tallystream.toml        the TOML file; else ./tallystream.toml if there is one

Each value is remembered with its origin, so that `tallystream settings` can tell and an error can
name the place to correct. No message ever repeats the value of a secret.
"""

import difflib
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ingest.domain.redaction import names_secret, without_secrets
from ingest.errors import SettingsError
from ingest.settings.model import ENVIRONMENT_PREFIX, KIB, MIB, Settings

CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
OPTION_PREFIX = f"{ENVIRONMENT_PREFIX}KAFKA_OPTION_"
FILE_SUFFIX = "_FILE"
DEFAULT_CONFIG = Path("tallystream.toml")

_MAX_CONFIG_BYTES = MIB
_MAX_SECRET_BYTES = 256 * KIB

# Kubernetes describes a service named tallystream to every pod in these; the tests have a prefix of their own.
_NOT_OURS = re.compile(
    rf"^{ENVIRONMENT_PREFIX}(TEST_.*|(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?"
    r"|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?))$"
)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, and for each name (also `kafka_options.<option>`) where it was set."""

    settings: Settings
    origins: Mapping[str, str]


class _Given(NamedTuple):
    name: str
    value: object
    origin: str


def load_settings(environ: Mapping[str, str] = os.environ, config: Path | None = None) -> Settings:
    """Return the settings in force; raise `SettingsError` with everything that is wrong."""
    return read_settings(environ, config).settings


def read_settings(environ: Mapping[str, str] = os.environ, config: Path | None = None) -> Loaded:
    """Return the settings in force and where each was set."""
    given = [*_from_toml(environ, config), *_from_environment(environ)]
    values: dict[str, object] = {}
    origins: dict[str, str] = {}
    for name, value, origin in given:
        table, _, option = name.partition(".")
        if option:
            options = values.setdefault(table, {})
            if isinstance(options, dict):  # something else there is refused by validation
                options[option] = value
        else:
            values[table] = value
        origins[name] = origin
    try:
        return Loaded(Settings.model_validate(values), origins)
    except ValidationError as error:
        problems = [_problem(details, origins) for details in error.errors(include_url=False)]
        raise SettingsError("\n".join(problems)) from None


def _from_toml(environ: Mapping[str, str], config: Path | None) -> Iterator[_Given]:
    path = config or (Path(named) if (named := environ.get(CONFIG_VARIABLE)) else None)
    if path is None:
        if not DEFAULT_CONFIG.is_file():
            return
        path = DEFAULT_CONFIG
    try:
        document = tomllib.loads(_read(path, _MAX_CONFIG_BYTES))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{path} is not valid TOML: {error}") from None
    for name, value in document.items():
        _check_name(name, f"{path}: {name}")
        if name == "kafka_options" and isinstance(value, dict):
            for option, text in _flattened(value):
                yield _Given(f"{name}.{option}", text, str(path))
        else:
            yield _Given(name, value, str(path))


def _flattened(table: Mapping[str, object]) -> Iterator[tuple[str, object]]:
    """Join nested keys with dots: TOML reads an unquoted `sasl.mechanism = ...` as a table in a table."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from ((f"{key}.{rest}", inner) for rest, inner in _flattened(value))
        else:
            yield key, value


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Given]:
    # Sorted, so that of a whole TALLYSTREAM_KAFKA_OPTIONS and its single entries the entries win.
    for variable in sorted(environ, key=lambda name: (name.startswith(OPTION_PREFIX), name)):
        text = environ[variable]
        if not variable.startswith(ENVIRONMENT_PREFIX) or variable == CONFIG_VARIABLE or not text:
            continue
        name, from_file = _setting_of(variable)
        if name is None:
            if not _NOT_OURS.match(variable):
                _check_name(variable.removeprefix(ENVIRONMENT_PREFIX).lower(), variable)
            continue
        if from_file:
            if environ.get(plain := variable.removesuffix(FILE_SUFFIX)):
                raise SettingsError(f"{plain} and {variable} are both set: remove one of them")
            text = _read(Path(text), _MAX_SECRET_BYTES).rstrip("\r\n")
        yield from _values(name, text, f"environment {variable}")


def _values(name: str, text: str, origin: str) -> Iterator[_Given]:
    if name != "kafka_options":
        yield _Given(name, text, origin)
        return
    try:
        options = json.loads(text)
    except ValueError:
        options = None
    if not isinstance(options, dict):
        raise SettingsError(f'kafka_options ({origin}) is not a JSON object, such as {{"sasl.mechanism": "PLAIN"}}')
    for option, value in options.items():
        yield _Given(f"{name}.{option}", value, origin)


def _setting_of(variable: str) -> tuple[str | None, bool]:
    """Return the setting an environment variable sets, and whether its value is in a file."""
    plain = variable.removesuffix(FILE_SUFFIX)
    if variable.startswith(OPTION_PREFIX):
        option = plain.removeprefix(OPTION_PREFIX).lower().replace("_", ".")
        return f"kafka_options.{option}", plain != variable
    for candidate in (variable, plain):
        name = candidate.removeprefix(ENVIRONMENT_PREFIX).lower()
        if name in Settings.model_fields:
            return name, candidate != variable
    return None, False


def _check_name(name: str, where: str) -> None:
    if name in Settings.model_fields:
        return
    close = difflib.get_close_matches(name, Settings.model_fields, n=1)
    known = "`tallystream settings` lists all there are"
    raise SettingsError(f"{where}: there is no such setting; " + (f"did you mean {close[0]}?" if close else known))


def _read(path: Path, max_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
        if len(content) > max_bytes:
            raise SettingsError(f"{path} is longer than {max_bytes} bytes: that cannot be the right file")
        return content.decode()
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path} is not UTF-8 text") from None


def _problem(details: ErrorDetails, origins: Mapping[str, str]) -> str:
    message = details["msg"].removeprefix("Value error, ")
    path = [str(part) for part in details["loc"]]
    if not path:
        return message
    name = ".".join(path)
    origin = origins.get(name) or origins.get(path[0]) or "default"
    value = details.get("input")
    shown = not names_secret(name) and path[0] != "kafka_options" and isinstance(value, str | int | float)
    told = f", and it is {without_secrets(repr(value))}" if shown else ""
    return f"{name} ({origin}): {message[:1].lower()}{message[1:]}{told}"
