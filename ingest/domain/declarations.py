"""Reads register declarations: TOML text in, registers out, or one error that names every problem.

A file declares any number of registers, each as a table `[register.NAME]` with the tables `dimensions` and `resources`
whose order is the order of the columns. Reads no file itself; whoever does says what the text is called.
"""

import tomllib
from collections.abc import Iterable, Iterator
from datetime import date
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ingest.domain.registers import (
    Dimension,
    Kind,
    Problem,
    Register,
    Resource,
    canonical_dimension_type,
    canonical_resource_type,
    problems_of,
)
from ingest.errors import DeclarationError

_TABLE: Final = "register"


class _RegisterModel(BaseModel):
    """One `[register.NAME]` table; absent keys have the defaults of `Register`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Kind
    dimensions: dict[str, str]
    resources: dict[str, str]
    totals_period: str = "day"
    partition_by: str = "month"
    high_write: Annotated[bool, Field(strict=True)] = False
    recorder_type: str = "text"
    time_zone: str = "UTC"
    tombstone_unposts: Annotated[bool, Field(strict=True)] = False
    period_min: date = date(2000, 1, 1)
    period_max: date = date(2099, 12, 31)
    high_write_auto: Annotated[bool, Field(strict=True)] = False
    subtotals: tuple[str, ...] = ()


class _FileModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    # pydantic's base class has an attribute `register` of its own.
    registers: Annotated[dict[str, _RegisterModel], Field(alias=_TABLE, min_length=1)]


def read_declarations(sources: Iterable[tuple[str, str]]) -> tuple[Register, ...]:
    """The registers of several files, each given as its name and its text.

    Raises:
        DeclarationError: with every problem of the first file that has any; a register declared by two files is one.
    """
    declared: dict[str, tuple[str, Register]] = {}
    for source, text in sources:
        for register in _read_file(source, text):
            if register.name in declared:
                earlier = declared[register.name][0]
                raise DeclarationError(f"{source}: [register.{register.name}]: declared in {earlier} already; keep one")
            declared[register.name] = (source, register)
    return tuple(register for _, register in declared.values())


def _read_file(source: str, text: str) -> tuple[Register, ...]:
    try:
        file = _FileModel.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{source}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise _declaration_error(source, (_located(details) for details in error.errors(include_url=False))) from None
    registers = tuple(_register(name, model) for name, model in file.registers.items())
    problems = [(_table(register.name), problem) for register in registers for problem in problems_of(register)]
    if problems:
        raise _declaration_error(source, problems)
    return registers


def _register(name: str, model: _RegisterModel) -> Register:
    """With types as they were written where they are not allowed, so that the check can quote them."""
    settings = model.model_dump(exclude={"dimensions", "resources"})
    return Register(
        name=name,
        dimensions=tuple(
            Dimension(column, canonical_dimension_type(written) or written)
            for column, written in model.dimensions.items()
        ),
        resources=tuple(
            Resource(column, canonical_resource_type(written) or written) for column, written in model.resources.items()
        ),
        **settings,
    )


def _located(error: ErrorDetails) -> tuple[str, Problem]:
    """Which table and which key pydantic means, and what is wrong in words that fit a TOML file."""
    path = [str(step) for step in error["loc"]]
    text = _fault(error, path)
    match path:
        case ["register", name, *key]:
            return _table(name), Problem(".".join(key), text)
        case _:
            return "", Problem(".".join(path), text)


def _fault(error: ErrorDetails, path: list[str]) -> str:
    match error["type"]:
        case "missing" | "too_short" if path == [_TABLE]:
            return "the file declares no register; it begins with a table like [register.inventory]"
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return f"is not known here; known are {', '.join(_known_keys(path))}"
        case "dict_type" | "model_type":
            return f"{error['input']!r} is wrong: it has to be a table"
        case _:
            return f"{error['input']!r} is wrong: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _known_keys(path: list[str]) -> Iterable[str]:
    return _RegisterModel.model_fields if path[0] == _TABLE else [_TABLE]


def _table(register_name: str) -> str:
    return f"[{_TABLE}.{register_name}]"


def _declaration_error(source: str, problems: Iterable[tuple[str, Problem]]) -> DeclarationError:
    return DeclarationError("\n".join(_lines(source, problems)))


def _lines(source: str, problems: Iterable[tuple[str, Problem]]) -> Iterator[str]:
    for table, problem in problems:
        place = " ".join(part for part in (table, problem.key) if part)
        yield f"{source}: {place}: {problem.text}"
