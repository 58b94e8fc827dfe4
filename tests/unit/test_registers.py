"""The rules of a declaration: the same as the database's, all problems at once."""

from dataclasses import replace
from datetime import date

import pytest

from ingest.domain.registers import (
    Dimension,
    Register,
    Resource,
    canonical_dimension_type,
    canonical_resource_type,
    problems_of,
)
from tests.support.events import EVERYTHING, INVENTORY


@pytest.mark.parametrize(
    ("written", "dimension", "resource"),
    [
        ("smallint", "smallint", None),
        ("int", "int", "int"),
        ("Integer", "int", "int"),
        ("BIGINT", "bigint", "bigint"),
        ("text", "text", None),
        ("varchar(20)", "varchar(20)", None),
        ("VARCHAR ( 20 )", "varchar(20)", None),
        ("varchar", None, None),
        ("varchar(0)", None, None),
        ("varchar(10000)", None, None),
        ("uuid", "uuid", None),
        ("date", "date", None),
        ("boolean", "boolean", None),
        ("timestamptz", "timestamptz", None),
        ("timestamp  with time zone", "timestamptz", None),
        ("timestamp", None, None),
        ("numeric", None, "numeric"),
        ("numeric(18,3)", "numeric(18,3)", "numeric(18,3)"),
        ("Numeric (18, 3)", "numeric(18,3)", "numeric(18,3)"),
        ("numeric(38,18)", "numeric(38,18)", "numeric(38,18)"),
        ("numeric(5,05)", "numeric(5,5)", "numeric(5,5)"),
        ("numeric(3,4)", None, None),
        ("numeric(39,2)", None, None),
        ("numeric(38,19)", None, None),
        ("numeric(18)", None, None),
        ("numeric(18,-3)", None, None),
        ("double precision", None, "double precision"),
        ("real", None, "real"),
        ("money", None, None),
        ("int; drop table x", None, None),
        ("", None, None),
        ("numeric(١٨,٣)", None, None),
    ],
)
def test_types(written: str, dimension: str | None, resource: str | None) -> None:
    """Types are whitelisted, and have one name each."""
    assert canonical_dimension_type(written) == dimension
    assert canonical_resource_type(written) == resource


@pytest.mark.parametrize("register", [INVENTORY, EVERYTHING])
def test_good_register(register: Register) -> None:
    """Nothing is wrong with a good one."""
    assert problems_of(register) == ()


def columns(count: int) -> tuple[Dimension, ...]:
    """So many dimensions."""
    return tuple(Dimension(f"c{number}", "int") for number in range(count))


def named(name: str, column_type: str = "int") -> Register:
    """A register with one dimension of this name and type."""
    return replace(INVENTORY, dimensions=(Dimension(name, column_type),))


@pytest.mark.parametrize(
    ("register", "key", "text"),
    [
        (replace(INVENTORY, name="Inventory"), "", "a register's name matches"),
        (replace(INVENTORY, name=""), "", "a register's name matches"),
        (replace(INVENTORY, name="r" * 36), "", "at most 35 characters"),
        (replace(INVENTORY, name='x"; drop table y'), "", "a register's name matches"),
        (replace(INVENTORY, name="inventory\n"), "", "a register's name matches"),
        (replace(INVENTORY, dimensions=()), "dimensions", "between 1 and 32"),
        (replace(INVENTORY, dimensions=columns(33)), "dimensions", "this one has 33"),
        (replace(INVENTORY, resources=()), "resources", "between 1 and 32"),
        (named("_x"), "dimensions._x", "a column's name matches"),
        (named("naïve"), "dimensions.naïve", "a column's name matches"),
        (named("c" * 64), "dimensions." + "c" * 64, "at most 63 characters"),
        (named("period"), "dimensions.period", "reserved"),
        (named("tallystream_x"), "dimensions.tallystream_x", "reserved"),
        (named("lot", "json"), "dimensions.lot", "'json' is not one of the types smallint, int"),
        (named("lot", "INTEGER"), "dimensions.lot", "is not one of the types"),
        (named("amount"), "resources.amount", "a dimension has this name already"),
        (replace(INVENTORY, dimensions=columns(2) + columns(1)), "dimensions.c0", "declared 2 times"),
        (replace(INVENTORY, resources=(Resource("q", "text"),)), "resources.q", "is not one of the types numeric(p,s)"),
        (replace(INVENTORY, totals_period="week"), "totals_period", "'week' is not one of day, month, year"),
        (replace(INVENTORY, partition_by="week"), "partition_by", "'week' is not one of day, month, quarter, year"),
        (replace(INVENTORY, recorder_type="json"), "recorder_type", "'json' is not one of text, int, bigint, uuid"),
        (replace(INVENTORY, time_zone="Mars/Olympus"), "time_zone", "'Mars/Olympus' is no known time zone"),
        (replace(INVENTORY, time_zone="America"), "time_zone", "no known time zone"),
        (replace(INVENTORY, time_zone="../../etc/passwd"), "time_zone", "no known time zone"),
        (replace(INVENTORY, time_zone=""), "time_zone", "no known time zone"),
        (replace(INVENTORY, time_zone="UTC\0"), "time_zone", "no known time zone"),
        (replace(INVENTORY, period_min=date(2100, 1, 1)), "period_min", "is after period_max, 2099-12-31"),
        (replace(INVENTORY, subtotals=("amount",)), "subtotals", "'amount' is not one of the dimensions warehouse, "),
        (replace(INVENTORY, subtotals=("lot", "lot")), "subtotals", "'lot' is named 2 times"),
    ],
)
def test_problem(register: Register, key: str, text: str) -> None:
    """Each problem names the key that is at fault."""
    (problem,) = problems_of(register)
    assert problem.key == key
    assert text in problem.text


def test_all_problems_at_once() -> None:
    """Nobody has to correct a declaration once per problem."""
    register = replace(INVENTORY, name="X", time_zone="X", recorder_type="X", dimensions=(Dimension("id", "X"),))
    assert len(problems_of(register)) == 5
