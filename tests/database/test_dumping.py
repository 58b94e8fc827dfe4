"""pg_dump of a database that is written to, and restore: the copy is one moment of it, and goes on from there."""

import subprocess
import threading

import psycopg
import pytest
from psycopg.types.json import Jsonb

from tests.support.local_postgres import client_program
from tests.support.postgres import SCHEMA, Database, Databases
from tests.support.program import run_tallystream
from tests.support.registers import Shop, element

# pg_dump is of the newest version; servers before it do not know this setting.
UNKNOWN_BEFORE_17 = "SET transaction_timeout = 0;\n"


def copy(source: Database, target: Database) -> None:
    """pg_dump | psql, as the owner; the first error ends it."""
    dump = subprocess.run(
        [client_program("pg_dump"), f"--dbname={source.dsn}"], check=True, capture_output=True, text=True
    ).stdout
    with target.connect() as connection:
        if connection.info.server_version < 170_000:
            dump = dump.replace(UNKNOWN_BEFORE_17, "")
    done = subprocess.run(
        [client_program("psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", f"--dbname={target.dsn}"],
        input=dump,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("high_write", [False, True])
def test_a_copy_of_a_live_database_verifies(databases: Databases, shop: Shop, *, high_write: bool) -> None:
    """With detached partitions, pending deltas and writers at work; registers, guards and numbers are all there."""
    shop.rows("SELECT register_alter('stock', high_write => %s)", high_write)
    shop.post([element("old", "2020-01-05", n, "x", quantity=n) for n in range(5)])
    shop.rows("SELECT register_detach_partitions('stock', now() - '2022-01-01')")
    going = threading.Event()
    errors: list[psycopg.Error] = []

    def work(number: int) -> None:
        with shop.connect() as session:
            while not going.is_set():
                data = [element(None, f"2026-0{1 + number}-05", n, "x", quantity=n + number) for n in range(5)]
                try:
                    session.execute("SELECT register_repost('stock', %s, %s)", [f"r{number}", Jsonb(data)])
                except psycopg.Error as error:
                    errors.append(error)
                    return

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    target = databases.create()
    try:
        copy(shop.database, target)
    finally:
        going.set()
        for thread in threads:
            thread.join()
    assert errors == []
    copied = Shop(target)
    assert copied.problems() == []
    assert copied.ask("SELECT sum(quantity)::int FROM stock_balances") == copied.ask(
        "SELECT sum(quantity)::int + 10 FROM stock_movements"
    )
    assert copied.repost("r0", [element(None, "2027-01-05", 1, "y", quantity=1)]) == 1
    assert copied.refusal("DELETE FROM stock_balance_cache")[0] == "TS020"
    assert copied.refusal("UPDATE stock_movements SET quantity = 0")[0] == "TS022"
    assert copied.refusal("SELECT register_unpost('stock', 'old')")[0] == "TS031"
    copied.create("another")
    assert copied.problems() == []
    env = {"TALLYSTREAM_POSTGRES_DSN": target.dsn, "TALLYSTREAM_SCHEMA_NAME": SCHEMA}
    assert "is up to date" in run_tallystream("migrate", env=env).check().out
    copied.clear()
    databases.drop(target)
