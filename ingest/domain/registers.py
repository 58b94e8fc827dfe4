"""What a register is: its columns, their types, and the rules a declaration has to keep.

`problems_of` finds everything that PostgreSQL's `register_create` would refuse, so that a person hears of all of it at
once and before anything is touched. Creates nothing.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DIMENSION_TYPES: Final = "smallint, int, bigint, text, varchar(n), uuid, date, boolean, numeric(p,s), timestamptz"
RESOURCE_TYPES: Final = "numeric(p,s), numeric, int, bigint, double precision, real"
TOTALS_PERIODS: Final = ("day", "month", "year")
PARTITION_PERIODS: Final = ("day", "month", "quarter", "year")
RECORDER_TYPES: Final = ("text", "int", "bigint", "uuid")

# The longest derived names, like NAME_balance_cache_delta and its indexes, have to fit in PostgreSQL's 63 bytes.
MAX_REGISTER_NAME_LENGTH: Final = 35
MAX_COLUMN_NAME_LENGTH: Final = 63
MAX_COLUMNS: Final = 32
MAX_VARCHAR_LENGTH: Final = 9999
MAX_PRECISION: Final = 38
MAX_SCALE: Final = 18

RESERVED_COLUMNS: Final = frozenset(
    {
        "id",
        "recorded_at",
        "recorder",
        "period",
        "movement_type",
        "dim_hash",
        "position_id",
        "partition_id",
        "event_offset",
        "batch_id",
        "last_movement_at",
        "version",
        "day",
        "topic",
        "partition",
        # Parameters of the functions that return a register's columns.
        "from_date",
        "to_date",
        "at_date",
        # Every table's own.
        "tableoid",
        "ctid",
        "xmin",
        "cmin",
        "xmax",
        "cmax",
    }
)
RESERVED_PREFIX: Final = "tallystream_"

_NAME: Final = re.compile(r"[a-z][a-z0-9_]*")
_VARCHAR: Final = re.compile(r"varchar ?\( ?([1-9][0-9]{0,3}) ?\)")
_NUMERIC: Final = re.compile(r"numeric ?\( ?([1-9][0-9]?) ?, ?([0-9]{1,2}) ?\)")
_SYNONYMS: Final = {"integer": "int", "timestamp with time zone": "timestamptz"}
_DIMENSION_WORDS: Final = frozenset({"smallint", "int", "bigint", "text", "uuid", "date", "boolean", "timestamptz"})
_RESOURCE_WORDS: Final = frozenset({"numeric", "int", "bigint", "double precision", "real"})


class Kind(StrEnum):
    """What a register keeps besides its movements."""

    BALANCE = "balance"
    TURNOVER = "turnover"


@dataclass(frozen=True, slots=True)
class Dimension:
    """A typed key column; `type` is canonical text such as `int` or `varchar(20)`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Resource:
    """A numeric column that accumulates; `type` is canonical text such as `numeric(18,3)`."""

    name: str
    type: str


@dataclass(frozen=True, slots=True)
class Register:
    """A declared set of dimensions and resources, in column order."""

    name: str
    kind: Kind
    dimensions: tuple[Dimension, ...]
    resources: tuple[Resource, ...]
    totals_period: str = "day"
    partition_by: str = "month"
    high_write: bool = False
    recorder_type: str = "text"
    time_zone: str = "UTC"
    tombstone_unposts: bool = False
    period_min: date = date(2000, 1, 1)
    period_max: date = date(2099, 12, 31)
    high_write_auto: bool = False
    subtotals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a declaration; `key` is like `dimensions.lot`, empty for the register as a whole."""

    key: str
    text: str


def canonical_dimension_type(text: str) -> str | None:
    """The type as PostgreSQL and this program call it; None when no dimension may have it."""
    words = _words(text)
    varchar = _VARCHAR.fullmatch(words)
    if varchar:
        return f"varchar({varchar[1]})"
    return words if words in _DIMENSION_WORDS else _canonical_numeric(words)


def canonical_resource_type(text: str) -> str | None:
    """The type as PostgreSQL and this program call it; None when no resource may have it."""
    words = _words(text)
    return words if words in _RESOURCE_WORDS else _canonical_numeric(words)


def numeric_bounds(canonical_type: str) -> tuple[int, int] | None:
    """Precision and scale of a `numeric(p,s)`; None for any other type."""
    numeric = _NUMERIC.fullmatch(canonical_type)
    return (int(numeric[1]), int(numeric[2])) if numeric else None


def varchar_length(canonical_type: str) -> int | None:
    """How many characters a `varchar(n)` holds; None for any other type."""
    varchar = _VARCHAR.fullmatch(canonical_type)
    return int(varchar[1]) if varchar else None


def problems_of(register: Register) -> tuple[Problem, ...]:
    """Everything that is wrong with a register, or nothing; types have to be canonical."""
    return tuple(_all_problems(register))


def _all_problems(register: Register) -> Iterator[Problem]:
    if not _NAME.fullmatch(register.name) or len(register.name) > MAX_REGISTER_NAME_LENGTH:
        yield Problem(
            "", f"a register's name matches ^[a-z][a-z0-9_]*$ and has at most {MAX_REGISTER_NAME_LENGTH} characters"
        )
    yield from _choice_problems(register)
    yield from _column_problems("dimensions", register.dimensions)
    yield from _column_problems("resources", register.resources)
    dimensions = {column.name for column in register.dimensions}
    for column in register.resources:
        if column.name in dimensions:
            yield Problem(f"resources.{column.name}", "a dimension has this name already")
    yield from _subtotal_problems(register)
    if not is_time_zone(register.time_zone):
        yield Problem("time_zone", f"{register.time_zone!r} is no known time zone; use a name like 'Europe/London'")
    if register.period_min > register.period_max:
        yield Problem("period_min", f"{register.period_min} is after period_max, {register.period_max}")


def _choice_problems(register: Register) -> Iterator[Problem]:
    choices = (
        ("totals_period", register.totals_period, TOTALS_PERIODS),
        ("partition_by", register.partition_by, PARTITION_PERIODS),
        ("recorder_type", register.recorder_type, RECORDER_TYPES),
    )
    for key, value, allowed in choices:
        if value not in allowed:
            yield Problem(key, f"{value!r} is not one of {', '.join(allowed)}")


def _subtotal_problems(register: Register) -> Iterator[Problem]:
    names = [column.name for column in register.dimensions]
    for name, count in Counter(register.subtotals).items():
        if name not in names:
            yield Problem("subtotals", f"{name!r} is not one of the dimensions {', '.join(names)}")
        if count > 1:
            yield Problem("subtotals", f"{name!r} is named {count} times")


def _column_problems(table: str, columns: Sequence[Dimension | Resource]) -> Iterator[Problem]:
    if not 1 <= len(columns) <= MAX_COLUMNS:
        yield Problem(table, f"a register has between 1 and {MAX_COLUMNS} {table}, and this one has {len(columns)}")
    for column in columns:
        key = f"{table}.{column.name}"
        if not _NAME.fullmatch(column.name) or len(column.name) > MAX_COLUMN_NAME_LENGTH:
            yield Problem(
                key, f"a column's name matches ^[a-z][a-z0-9_]*$ and has at most {MAX_COLUMN_NAME_LENGTH} characters"
            )
        elif column.name in RESERVED_COLUMNS or column.name.startswith(RESERVED_PREFIX):
            yield Problem(key, "the name is reserved for a register's own columns; choose another one")
        if not _is_canonical(column):
            allowed = DIMENSION_TYPES if isinstance(column, Dimension) else RESOURCE_TYPES
            yield Problem(
                key,
                f"{column.type!r} is not one of the types {allowed} (p at most {MAX_PRECISION}, s at most {MAX_SCALE})",
            )
    for name, count in Counter(column.name for column in columns).items():
        if count > 1:
            yield Problem(f"{table}.{name}", f"the column is declared {count} times")


def is_time_zone(name: str) -> bool:
    """Whether the name is a time zone's; tz data is the one thing that is read from outside here."""
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # unknown; not a relative path; a folder such as "America"
        return False
    return True


def _is_canonical(column: Dimension | Resource) -> bool:
    canonical = canonical_dimension_type if isinstance(column, Dimension) else canonical_resource_type
    return canonical(column.type) == column.type


def _words(text: str) -> str:
    words = " ".join(text.lower().split())
    return _SYNONYMS.get(words, words)


def _canonical_numeric(words: str) -> str | None:
    bounds = numeric_bounds(words)
    if bounds is None or bounds[0] > MAX_PRECISION or bounds[1] > min(bounds):
        return None
    precision, scale = bounds
    return f"numeric({precision},{scale})" if scale <= MAX_SCALE else None
