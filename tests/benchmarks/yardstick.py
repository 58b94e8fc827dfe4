"""The yardstick: what PostgreSQL does at most with the same rows, when nobody adds anything up.

COPY by one writer, 10,000 rows a transaction, into a plain partitioned table with the columns of the register's
movements, no triggers and two B-trees: (recorder) and (cell key, period). It stays so, whatever our own table becomes.
"""

import time
from collections.abc import Iterable

import psycopg

from tests.support.postgres import Database

PLAIN = """
    CREATE TABLE yardstick (LIKE accum.{register}_movements INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING IDENTITY)
    PARTITION BY RANGE (period);
    CREATE INDEX ON yardstick (recorder);
    CREATE INDEX ON yardstick (dim_hash, period);
"""
PARTITIONS = """
    DO $$ BEGIN
        FOR n IN 0..{months} - 1 LOOP
            EXECUTE format(
                'CREATE TABLE yardstick_%s PARTITION OF yardstick FOR VALUES FROM (%L) TO (%L)', n,
                '{first}'::timestamptz + n * interval '1 month', '{first}'::timestamptz + (n + 1) * interval '1 month');
        END LOOP;
    END $$
"""
MONTHS = 14
COPY = "COPY yardstick (recorder, period, position_id, event_offset, batch_id, {columns}) FROM STDIN"


def create_yardstick(connection: psycopg.Connection, register: str, first_month: str) -> None:
    """An empty table with partitions by month, like the register's own."""
    connection.execute(PLAIN.format(register=register).encode())
    connection.execute(PARTITIONS.format(first=first_month, months=MONTHS).encode())


def copy_yardstick(
    database: Database, register: str, columns: Iterable[str], blocks: Iterable[tuple[int, bytes]], first_month: str
) -> float:
    """Rows a second."""
    statement = COPY.format(columns=", ".join(columns)).encode()
    with database.connect(options="-c timezone=UTC") as connection:
        create_yardstick(connection, register, first_month)
        began, count = time.perf_counter(), 0
        for rows, block in blocks:
            with connection.cursor().copy(statement) as copy:
                copy.write(block)
            count += rows
        return count / (time.perf_counter() - began)
