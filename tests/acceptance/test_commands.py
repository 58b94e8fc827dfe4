"""The commands as an operator runs them, from an empty database to a worker that is told to stop."""

import json
from pathlib import Path

import pytest

from tests.support.postgres import Database
from tests.support.processes import free_ports
from tests.support.program import run_tallystream
from tests.support.stream import Stream

DSN = "TALLYSTREAM_POSTGRES_DSN"

INVENTORY = """
[register.inventory]
kind = "balance"
time_zone = "Europe/London"

[register.inventory.dimensions]
product = "int"

[register.inventory.resources]
quantity = "numeric(18,3)"
"""


def event(number: int, **changes: object) -> bytes:
    """A good event of a recorder of its own, with some keys changed."""
    line = {"product": number % 3, "quantity": "1.5"}
    body = {
        "id": f"e{number}",
        "type": "movement",
        "register": "inventory",
        "recorder": f"receipt:{number}",
        "period": "2026-04-18T10:00:00Z",
        "movements": [line],
    }
    return json.dumps(body | changes).encode()


def test_migrating(empty_database: Database) -> None:
    """The first time something is applied, the second time nothing is; before it, commands say what is missing."""
    env = {DSN: empty_database.dsn}
    for command in (["register", "list"], ["status"], ["dead-letters", "list"]):
        refused = run_tallystream(*command, env=env).check(2)
        assert "run `tallystream migrate`" in refused.err
    first = run_tallystream("migrate", env=env).check()
    assert "0001_core" in first.out
    again = run_tallystream("migrate", env=env).check()
    assert "0001_core" not in again.out
    listed = run_tallystream("register", "list", env=env).check()
    assert (listed.err, "`tallystream register apply FILE`" in listed.out) == ("", True)


def test_a_server_that_is_not_there() -> None:
    """Exit code 2 and one line, without the password."""
    (port,) = free_ports(1)
    env = {DSN: f"postgresql://shop:canary@127.0.0.1:{port}/shop"}
    for command in (["migrate"], ["register", "list"], ["status"]):
        refused = run_tallystream(*command, env=env).check(2)
        assert refused.err.startswith("tallystream: ")
        assert str(port) in refused.err
        assert "canary" not in refused.err
        assert "Traceback" not in refused.err


def test_declaring(database: Database, tmp_path: Path) -> None:
    """Applied, applied again, extended; a change that would lose something is refused, and nothing is changed."""
    env, file = {DSN: database.dsn}, tmp_path / "registers.toml"

    def apply(text: str, code: int = 0) -> str:
        file.write_text(text, encoding="utf-8")
        done = run_tallystream("register", "apply", str(file), env=env).check(code)
        return done.err if code else done.out

    assert apply(INVENTORY) == "inventory: created\n"
    assert apply(INVENTORY) == "inventory: unchanged\n"
    assert "amount" in apply(INVENTORY + 'amount = "bigint"\n')
    assert "inventory" in apply(INVENTORY.replace("numeric(18,3)", "bigint"), 2)
    shown = json.loads(run_tallystream("register", "show", "inventory", env=env).check().out)
    assert [(column["name"], column["type"]) for column in shown["resources"]] == [
        ("quantity", "numeric(18,3)"),
        ("amount", "bigint"),
    ]
    assert "Europe/London" in run_tallystream("register", "list", env=env).check().out
    unknown = run_tallystream("register", "show", "inventroy", env=env).check(2)
    assert unknown.err == "tallystream: register inventroy does not exist; there are: inventory\n"
    missing = run_tallystream("register", "apply", "none.toml", env=env).check(2)
    assert missing.err == "tallystream: none.toml cannot be read: No such file or directory\n"


@pytest.mark.slow
def test_a_day_at_work(stream: Stream) -> None:
    """Events are read, bad ones are looked at and settled, and a worker that is told to stop stops."""
    stream.declare(INVENTORY)
    red = [{"product": 1, "colour": "red"}]
    bad = [event(97, register="inventroy"), event(98, movements=red), b'{"recorder": "x"}']
    stream.produce([*(event(number) for number in range(90)), event(5), *bad])
    worker = stream.worker()
    stream.wait_until_read()
    assert stream.counts() == {"applied": 90, "duplicates": 1, "stale": 0, "dead_letters": 3}
    table = stream.run("status").check().out
    assert f"{stream.topic}[3]" in table
    assert "1 unknown_register" in table

    letters = json.loads(stream.run("dead-letters", "list", "--json").check().out)
    assert {letter["reason"] for letter in letters} == {"unknown_register", "unknown_column", "missing_key"}
    ids = {letter["reason"]: str(letter["id"]) for letter in letters}
    listed = stream.run("dead-letters", "list", "--reason", "unknown_column").check().out
    assert "movements[0].colour" in listed
    assert "inventroy" not in listed
    shown = json.loads(stream.run("dead-letters", "show", ids["unknown_column"]).check().out)
    assert json.loads(shown["event_value"])["movements"] == red

    # The register that was missing is declared, with a worker running; its event is settled, the others stay.
    stream.declare(INVENTORY.replace("inventory", "inventroy"))
    retried = stream.run("dead-letters", "retry", "--all").check(1).out
    assert retried.startswith("1 settled with 1 movements, 2 refused again\n")
    stream.run("dead-letters", "drop", ids["unknown_column"], ids["missing_key"], "--note", "a test's").check()
    assert stream.run("dead-letters", "list").check().out == "no dead letters\n"

    stream.produce([event(99, register="inventroy"), event(100)])
    stream.wait_until_read()
    assert stream.counts()["applied"] == 92
    with stream.database.connect() as connection:
        [balance] = connection.execute("SELECT sum(quantity) FROM accum.inventory_balances").fetchall()
        [other] = connection.execute("SELECT sum(quantity) FROM accum.inventroy_balances").fetchall()
    assert (float(balance[0]), float(other[0])) == (91 * 1.5, 2 * 1.5)

    stream.stop()
    stopped = worker.wait_for_log(event="stopped")
    assert stopped["events"] == 96
    assert "tallystream" not in str(worker.logged(event="committed")), "the database's password"
