"""Reads mappings: TOML text in, the rules of one register out, or one error that names every problem.

    [[mapping.inventory]]
    where = { warehouse = [3, 4] }
    set = { warehouse = 1 }

TOML has no null: `where_null` and `set_null` name the dimensions that are, or become, null. Reads no file itself.
"""

import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from ingest.domain.decimals import Reader, number_reader
from ingest.domain.mapping import RegisterMapping, Rule
from ingest.domain.messages import Limits
from ingest.domain.registers import Register
from ingest.domain.strict_json import Number, UnreadableError
from ingest.domain.values import dimension_reader
from ingest.errors import DeclarationError

T = TypeVar("T")

_TABLE: Final = "mapping"


class _RuleModel(BaseModel):
    """One `[[mapping.NAME]]` table."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    where: dict[str, Any] = {}
    where_null: list[str] = []
    put: Annotated[dict[str, Any], Field(alias="set")] = {}
    set_null: list[str] = []
    multiply: dict[str, Any] = {}
    leave_out: Annotated[bool, Field(strict=True)] = False


class _FileModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    mapping: dict[str, list[_RuleModel]]


def read_mapping(source: str, text: str, register: Register, limits: Limits) -> RegisterMapping:
    """The rules that a file, given as its name and its text, has for a register.

    Raises:
        DeclarationError: with every problem of the file.
    """
    try:
        file = _FileModel.model_validate(tomllib.loads(text, parse_float=Number))
    except tomllib.TOMLDecodeError as error:
        raise DeclarationError(f"{source}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise DeclarationError("\n".join(f"{source}: {_located(each)}" for each in error.errors())) from None
    models = file.mapping.get(register.name)
    if not models:
        mapped = ", ".join(sorted(file.mapping)) or "none"
        message = (
            f"{source} has no rule for register {register.name}, no [[{_TABLE}.{register.name}]]; it has: {mapped}"
        )
        raise DeclarationError(message)
    columns = _Columns(register, limits)
    rules = [columns.rule(f"[[{_TABLE}.{register.name}]] {number}", model) for number, model in enumerate(models, 1)]
    if columns.problems:
        raise DeclarationError("\n".join(f"{source}: {problem}" for problem in columns.problems))
    return RegisterMapping(register, rules, limits)


class _Columns:
    """The readers of a register's columns, and what they could not read."""

    def __init__(self, register: Register, limits: Limits) -> None:
        self.problems: list[str] = []
        self._dimensions = {column.name: dimension_reader(column, limits) for column in register.dimensions}
        self._resources = {column.name: number_reader("numeric", limits) for column in register.resources}

    def rule(self, place: str, model: _RuleModel) -> Rule:
        """The rule with its values in canonical text."""
        where = dict(self._each(f"{place} where", model.where, self._dimensions, _read_several))
        for name in self._nulls(f"{place} where_null", model.where_null):
            where[name] = where.get(name, frozenset()) | {None}
        put: dict[str, str | None] = dict(self._each(f"{place} set", model.put, self._dimensions, _read_one))
        nulls = self._nulls(f"{place} set_null", model.set_null)
        factors = dict(self._each(f"{place} multiply", model.multiply, self._resources, _read_one))
        self._check(place, model, set(put) & set(nulls))
        put |= dict.fromkeys(nulls)
        return Rule(where, put, {name: Decimal(text) for name, text in factors.items()}, model.leave_out)

    def _check(self, place: str, model: _RuleModel, twice: set[str]) -> None:
        changes = bool(model.put or model.set_null or model.multiply)
        if not changes and not model.leave_out:
            self.problems.append(f"{place}: changes nothing; it needs set, set_null, multiply or leave_out")
        if changes and model.leave_out:
            self.problems.append(f"{place}: a movement that is left out is not changed as well; make two rules of it")
        self.problems += [f"{place}: {name} is in set and in set_null" for name in sorted(twice)]

    def _each(
        self, place: str, written: Mapping[str, Any], known: Mapping[str, Reader], read: Callable[[Reader, Any], T]
    ) -> Iterator[tuple[str, T]]:
        for name, value in written.items():
            try:
                if self._knows(place, name, known):
                    yield name, read(known[name], value)
            except UnreadableError as error:
                self.problems.append(f"{place}.{name}: {error.detail}")

    def _nulls(self, place: str, names: list[str]) -> list[str]:
        return [name for name in names if self._knows(place, name, self._dimensions)]

    def _knows(self, place: str, name: str, known: Mapping[str, Reader]) -> bool:
        if name not in known:
            what = "dimension" if known is self._dimensions else "resource"
            self.problems.append(f"{place}.{name}: the register has no such {what}; it has {', '.join(known)}")
        return name in known


def _read_one(read: Reader, value: object) -> str:
    # TOML has types of its own for what JSON writes as text.
    return read(value.isoformat() if isinstance(value, date) else value)


def _read_several(read: Reader, value: object) -> frozenset[str | None]:
    return frozenset(_read_one(read, each) for each in (value if isinstance(value, list) else [value]))


def _located(error: ErrorDetails) -> str:
    path = [str(step + 1 if isinstance(step, int) else step) for step in error["loc"]]
    if error["type"] == "extra_forbidden":
        known = [_TABLE] if len(path) == 1 else ["set" if name == "put" else name for name in _RuleModel.model_fields]
        return f"{'.'.join(path)}: is not known here; known are {', '.join(known)}"
    if error["type"] == "missing":
        return f"the file has no rule; one begins with a line like [[{_TABLE}.inventory]]"
    return f"{'.'.join(path)}: {error['input']!r} is wrong: {error['msg'][:1].lower()}{error['msg'][1:]}"
