"""What an error of PostgreSQL means: the batch is tried again, or the event is to blame."""

import psycopg
import pytest

from ingest.errors import DataError, OperatorError, TransientError
from ingest.postgres.connections import translate

PASSING = ["08006", "25006", "40001", "40P01", "53300", "53100", "55P03", "57014", "57P01", "58030"]
TO_BLAME = ["21000", "22003", "22P02", "23514", "54000"]


@pytest.mark.scenario("W11")
@pytest.mark.parametrize("sqlstate", PASSING)
def test_a_passing_failure_is_tried_again(sqlstate: str) -> None:
    """Connections, deadlocks, resources, locks, interventions and the system say nothing about the data."""
    error = translate(psycopg.errors.lookup(sqlstate)("in the way"))
    assert isinstance(error, TransientError)
    assert sqlstate in str(error)


@pytest.mark.parametrize("sqlstate", TO_BLAME)
def test_the_same_data_would_fail_again(sqlstate: str) -> None:
    """Data, constraints, and what two cells with one key make of a statement."""
    error = translate(psycopg.errors.lookup(sqlstate)("too large"))
    assert isinstance(error, DataError)
    assert error.sqlstate == sqlstate


def test_a_missing_right_is_a_persons_to_give() -> None:
    """The message says where the rights are listed."""
    error = translate(psycopg.errors.InsufficientPrivilege("permission denied for schema accum"))
    assert type(error) is OperatorError
    assert "docs/privileges.md" in str(error)
