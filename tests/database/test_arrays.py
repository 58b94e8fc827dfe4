"""Arrays that this program writes as text are what the driver would have sent."""

import random
from datetime import UTC, datetime, timedelta, timezone

import psycopg

from ingest.postgres.arrays import bytea_array, number_array, text_array, time_array
from tests.support.postgres import Database


def same(connection: psycopg.Connection, text: str, values: list[object], element: bytes) -> bool:
    """Whether PostgreSQL reads both as equal arrays."""
    statement = b"SELECT %s::" + element + b"[] IS NOT DISTINCT FROM %s::" + element + b"[]"
    row = connection.execute(statement, [text, values]).fetchone()
    return row == (True,)


def test_texts(database: Database, rng: random.Random) -> None:
    """What an array's text quotes, what it would take for null or for its own end; and any text."""
    odd = [
        "",
        " ",
        "NULL",
        "null",
        "a,b",
        "{",
        "}",
        '"',
        '""',
        "\\",
        "\\\\",
        '\\"',
        "\n",
        "\t",
        "a'b",
        "é",
        "\U0001f600",
        "%s",
    ]
    random_ones = ["".join(rng.choices('ab",\\{} ', k=rng.randrange(6))) for _ in range(300)]
    with database.connect() as connection:
        for values in ([], *([value] for value in odd), odd, ["a", '","', "b"], random_ones, ["plain", "ones"]):
            assert same(connection, text_array(values), [*values], b"text"), values
        assert not same(connection, text_array(["a,b"]), ["a", "b"], b"text")


def test_numbers(database: Database) -> None:
    """Of every size, and none at all."""
    values = [0, -1, 2**63 - 1, -(2**63), None, 7]
    with database.connect() as connection:
        assert same(connection, number_array(values), [*values], b"bigint")
        assert same(connection, number_array([]), [], b"bigint")
        assert not same(connection, number_array([None]), [0], b"bigint")


def test_bytes(database: Database, rng: random.Random) -> None:
    """All bytes, none, and many."""
    values = [b"", bytes(range(256)), *(rng.randbytes(16 * n) for n in range(64))]
    with database.connect() as connection:
        assert same(connection, bytea_array(values), [*values], b"bytea")
        assert same(connection, bytea_array([]), [], b"bytea")
        assert not same(connection, bytea_array([b"a"]), [b"b"], b"bytea")


def test_times(database: Database) -> None:
    """Every part of a time down to the microsecond, whatever the session's time zone; and none at all."""
    values = [
        datetime(2026, 4, 18, 10, tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
        datetime(2026, 4, 18, 10, 0, 0, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30))),
        None,
    ]
    with database.connect() as connection:
        connection.execute("SET TimeZone = 'Asia/Tokyo'")
        assert same(connection, time_array(values), [*values], b"timestamptz")
        assert same(connection, time_array([]), [], b"timestamptz")
        assert not same(connection, time_array([None]), [values[0]], b"timestamptz")
