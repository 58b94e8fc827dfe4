"""docs/sql.md: its examples run in psql, in their order and in one database, and their answers stand below them.

A block of ```sql is run; the block of ```text after it is what psql printed. A block without an answer is run as well.
The reference at the end is made of the comments that the functions, views and tables have in the database.
"""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from tests.support.local_postgres import LocalPostgres
from tests.support.postgres import Database

REFERENCE = "<!-- reference -->\n"
EXAMPLE = re.compile(r"^```sql\n(?P<statements>.*?)^```\n(?:\n```text\n.*?^```\n)?", re.MULTILINE | re.DOTALL)
# In the defaults of parameters: 'day'::text, NULL::jsonb.
CAST = re.compile(r"(?<=NULL)::[a-z ]+|(?<=')::[a-z ]+")
SETTINGS = "-c search_path=accum -c client_min_messages=warning -c datestyle=ISO -c timezone=UTC"
# A server of another version says some things in other words; the answers are those of the embedded one.
PSQL = ("--no-psqlrc", "--quiet", "--set=SHOW_CONTEXT=never", "--pset=footer=off", "--pset=null=∅")

FUNCTIONS = """
    SELECT p.proname, pg_get_function_arguments(p.oid), pg_get_function_result(p.oid), obj_description(p.oid, 'pg_proc')
    FROM pg_proc AS p
    WHERE p.pronamespace = 'accum'::regnamespace AND p.prorettype <> 'trigger'::regtype
    AND obj_description(p.oid, 'pg_proc') IS NOT NULL
    AND p.proname ~ %s
    ORDER BY p.proname, p.oid
"""
# Those that begin with an underscore are nobody's to call, with one exception that has its name from elsewhere.
OF_ALL_REGISTERS = "^(?!inventory_)([^_]|_force_delta_merge)"
OF_ONE_REGISTER = "^inventory_(balance|turnover|movements(?!_))"
VIEWS = """
    SELECT c.relname, string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum),
        obj_description(c.oid, 'pg_class')
    FROM pg_class AS c
    INNER JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    WHERE c.relnamespace = 'accum'::regnamespace AND c.relkind = 'v' AND c.relname LIKE 'inventory\\_%'
    GROUP BY c.oid, c.relname
    ORDER BY c.relname
"""


def written_anew(guide: str, server: LocalPostgres, database: Database) -> str:
    """The guide with its answers and its reference as this database gives them; the database is migrated and empty."""
    text, _, _ = guide.partition(REFERENCE)
    dsn = make_conninfo(server.dsn, dbname=database.name, user=database.owner)
    answered = EXAMPLE.sub(lambda example: _answered(server, dsn, example["statements"]), text)
    with database.connect() as connection:
        return answered + REFERENCE + "\n".join(["", *_reference(connection), ""])


def _answered(server: LocalPostgres, dsn: str, statements: str) -> str:
    block = f"```sql\n{statements}```\n"
    answer = "\n".join(line.rstrip() for line in _run(server.program("psql"), dsn, statements).splitlines()).strip("\n")
    return f"{block}\n```text\n{answer}\n```\n" if answer.strip() else block


def _run(psql: Path, dsn: str, statements: str) -> str:
    done = subprocess.run(
        [psql, *PSQL, f"--dbname={dsn}"],
        check=False,
        input=statements,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PGOPTIONS": SETTINGS, "PGCLIENTENCODING": "UTF8", "LC_ALL": "C.UTF-8"},
    )
    return done.stdout


def _reference(connection: psycopg.Connection) -> Iterator[str]:
    yield "Generated from the comments in the database; `\\df+ accum.*` in psql shows the same."
    yield "\n### Functions of all registers\n"
    yield from _functions(connection, OF_ALL_REGISTERS)
    yield "### Functions of one register, here of `inventory`\n"
    yield from _functions(connection, OF_ONE_REGISTER)
    yield "### Views of one register\n"
    for name, columns, comment in connection.execute(VIEWS.encode()):
        yield f"**`{name}`** ({columns})  \n{comment}\n"


def _functions(connection: psycopg.Connection, pattern: str) -> Iterator[str]:
    for name, arguments, result, comment in connection.execute(FUNCTIONS.encode(), [pattern]):
        yield f"**`{name}`** `({CAST.sub('', arguments)}) → {result}`  \n{comment}\n"
