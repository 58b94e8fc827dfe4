"""`tallystream verify`, `rebuild`, `stats` and `partitions`, as an operator and an operator's scripts run them."""

import json
import os
import pty
import select
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import Database
from tests.support.program import COMMAND, Done, environment, run_tallystream
from tests.support.registers import Shop, element
from tests.support.sessions import holding, wait_for_waiters

DAMAGE = (
    "ALTER TABLE stock_balance_cache DISABLE TRIGGER guard",
    "UPDATE stock_balance_cache SET quantity = 12345678901234567.891 WHERE warehouse = 1",
    "DELETE FROM stock_balance_cache WHERE warehouse = 2",
    "ALTER TABLE stock_balance_cache ENABLE TRIGGER guard",
)


def tally(database: Database, *arguments: str, **env: str) -> Done:
    """The command against a test's database."""
    return run_tallystream(*arguments, env={"TALLYSTREAM_POSTGRES_DSN": database.dsn, **env})


def read(done: Done) -> Any:  # noqa: ANN401 - any JSON
    """What the command printed for programs."""
    return json.loads(done.out)


@pytest.fixture
def damaged(shop: Shop) -> Shop:
    """Two balances of `stock` are not what its movements say; `other` is right."""
    shop.create("other")
    shop.post([element("r", "2026-01-05", warehouse, "x", quantity=warehouse) for warehouse in (1, 2, 3)])
    for statement in DAMAGE:
        shop.rows(statement)
    return shop


def test_differences_are_found_and_mended(damaged: Shop) -> None:
    """Exit code 1 while there is a difference, exact numbers, a key that `rebuild` takes, and 0 afterwards."""
    done = tally(damaged.database, "verify", "--json").check(1)
    other, stock = read(done)
    assert (other["register"], other["right"], other["checks"]) == ("other", True, ["balance", "day", "month", "year"])
    assert stock["found"] == [
        {"check": "balance", "status": "MISMATCH", "differences": 1},
        {"check": "balance", "status": "MISSING_IN_CACHE", "differences": 1},
    ]
    wrong, lost = sorted(stock["differences"], key=lambda difference: difference["status"])
    assert wrong["actual"] == {"quantity": "12345678901234567.891", "amount": "0.00"}
    assert (wrong["cell"], lost["cell"]) == ({"warehouse": 1, "lot": "x"}, {"warehouse": 2, "lot": "x"})
    assert lost["expected"] == {"quantity": "2.000", "amount": "0.00"}
    cell = f"--cell={lost['dim_hash']}"
    assert tally(damaged.database, "rebuild", "stock", cell).check().out == (
        "stock: mended 0 rows of totals and 1 of balances\n"
    )
    assert damaged.ask("SELECT quantity::int FROM stock_balances WHERE warehouse = 2") == 2
    rebuilt = read(tally(damaged.database, "rebuild", "--json").check())
    assert rebuilt == [
        {"register": "other", "totals": 0, "balances": 0},
        {"register": "stock", "totals": 0, "balances": 1},
    ]
    done = tally(damaged.database, "verify").check()
    assert done.out == "other: right (balance, day, month, year)\nstock: right (balance, day, month, year)\n"


def test_differences_are_shown_as_far_as_asked(damaged: Shop) -> None:
    """All are counted, the first are shown; standard error tells a script's log what is at work."""
    done = tally(damaged.database, "verify", "stock", "--most", "1").check(1)
    first, heading, row, rest = done.out.splitlines()
    assert first == "stock: 2 differences: 1 MISMATCH in balance, 1 MISSING_IN_CACHE in balance"
    assert heading.split() == ["check", "period", "cell", "key", "status", "expected", "actual"]
    assert row.startswith("balance  -       warehouse ")
    assert ", lot x  " in row
    assert rest == "and 1 more; --most shows as many as you like"
    assert [json.loads(line)["event"] for line in done.err.splitlines()] == ["verifying stock (1 of 1)"]


def test_progress_is_shown_on_a_terminal(damaged: Shop) -> None:
    """Which register is at work, on standard error; the result alone is on standard output."""
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [COMMAND, "verify"],
        stdout=subprocess.PIPE,
        stderr=end,
        text=True,
        env=environment({"TALLYSTREAM_POSTGRES_DSN": damaged.database.dsn, "TERM": "xterm", "COLUMNS": "100"}),
    ) as process:
        os.close(end)
        seen = b""
        while select.select([terminal], [], [], 60)[0]:
            try:
                seen += os.read(terminal, 4096)
            except OSError:  # the other end is closed
                break
        out, _ = process.communicate(timeout=60)
    os.close(terminal)
    assert process.returncode == 1
    assert b"verifying other (1 of 2)" in seen
    assert b"verifying stock (2 of 2)" in seen
    assert out.startswith("other: right")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "nowhere"], "register nowhere does not exist; there are: stock"),
        (["rebuild", "stock", "nowhere"], "register nowhere does not exist; there are: stock"),
        (["rebuild", "--cell", "1"], "--cell is the key of a cell in one register: name that register"),
        (["rebuild", "--dry-run"], "--dry-run: only a rebuild from the topic has that; say --from-topic"),
        (["rebuild", "--from-topic"], "one register at a time is rebuilt from its topic: name it, and no cell of it"),
        (["rebuild", "--from-topic", "stock", "--cell", "1"], "one register at a time is rebuilt from its topic"),
        (["rebuild", "--from-topic", "stock"], "kafka_bootstrap_servers is not set"),
        (["rebuild", "--discard", "nowhere"], "register nowhere does not exist; there are: stock"),
        (["partitions", "--detach-older-than=-1 year"], "register stock: p_older_than is -1 years, p_most is 1"),
        (["partitions", "--create-ahead=soon"], 'invalid input syntax for type interval: "soon"'),
    ],
)
def test_what_cannot_be_done_is_one_message(shop: Shop, arguments: list[str], message: str) -> None:
    """Exit code 2, and nothing was changed before it was noticed."""
    done = tally(shop.database, *arguments).check(2)
    assert f"tallystream: {message}" in done.err
    assert (done.out, "Traceback" in done.err) == ("", False)


def test_a_rebuild_from_the_topic_is_given_up(shop: Shop) -> None:
    """Its shadow goes, whoever began it; without one nothing happens."""
    shop.rows("SELECT _begin_rebuild('stock', 'tallystream', NULL, NULL)")
    assert tally(shop.database, "rebuild", "stock", "--discard").check().out == "stock: the rebuild was given up\n"
    again = tally(shop.database, "rebuild", "stock", "--discard").check().out
    assert again == "stock: no rebuild from the topic is under way\n"
    assert shop.ask("SELECT count(*) FROM _registers") == 1


def test_another_declaration_has_to_be_of_that_register(shop: Shop, tmp_path: Path) -> None:
    """Before anything is begun."""
    file = tmp_path / "other.toml"
    file.write_text('[register.other]\nkind = "balance"\ndimensions = {a = "int"}\nresources = {b = "int"}\n')
    kafka = {"TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9"}
    done = tally(shop.database, "rebuild", "stock", "--from-topic", "--declaration", str(file), **kafka).check(2)
    assert "other.toml does not declare register stock" in done.err
    assert shop.ask("SELECT count(*) FROM _rebuilds") == 0


def test_time_is_bounded_by_a_setting(shop: Shop) -> None:
    """A verification that takes too long ends with exit code 2, and says what ended it."""
    with holding(shop.database, "LOCK TABLE stock_movements IN ACCESS EXCLUSIVE MODE"):
        done = tally(
            shop.database, "verify", TALLYSTREAM_MAINTENANCE_TIMEOUT_MS="200", TALLYSTREAM_LOCK_TIMEOUT_MS="60000"
        ).check(2)
        assert "canceling statement due to statement timeout (SQLSTATE 57014)" in done.err
        done = tally(shop.database, "rebuild", TALLYSTREAM_LOCK_TIMEOUT_MS="200").check(2)
    assert "canceling statement due to lock timeout (SQLSTATE 55P03)" in done.err


def test_partitions_come_and_go(shop: Shop) -> None:
    """Made ahead on request, detached only on request, one transaction each; the listing shows what is then."""
    shop.post([element("r", f"20{year}-02-05", 1, "x", quantity=1) for year in (20, 21)])
    (listed,) = read(tally(shop.database, "partitions", "stock", "--json").check())
    assert [partition["state"] for partition in listed["partitions"]] == ["attached"] * 2
    (made,) = read(tally(shop.database, "partitions", "--create-ahead", "2 months", "--json").check())
    assert (made["created"], len(made["partitions"]), made["detached"]) == (3, 5, [])
    version = shop.ask("SELECT version FROM _registry_version")
    done = tally(shop.database, "partitions", "--detach-older-than", "2 years").check()
    detached = "stock: detached stock_movements_2020_02 (1 movements), stock_movements_2021_02 (1 movements)"
    assert done.out.splitlines()[0] == detached
    assert "stock_movements_2021_02  2021-02-01  2021-03-01  detached" in done.out
    assert shop.ask("SELECT version FROM _registry_version") == version + 2
    done = tally(shop.database, "partitions", "--detach-older-than", "2 years").check()
    assert done.out.splitlines()[0] == "stock: detached nothing, no partition is that old"
    assert shop.ask("SELECT version FROM _registry_version") == version + 2
    assert shop.problems() == []


def test_detaching_waits_for_a_batch(shop: Shop) -> None:
    """A session that posts is not cut off, and detaching goes on when it has committed."""
    shop.post(element("r", "2020-02-05", 1, "x", quantity=1))
    post = """SELECT register_post('stock', '{"recorder": "s", "period": "2026-01-01", "warehouse": 1, "lot": null}')"""
    codes: list[int] = []
    with holding(shop.database, post) as poster:
        arguments = ("partitions", "--detach-older-than", "2 years")
        command = threading.Thread(target=lambda: codes.append(tally(shop.database, *arguments).code))
        command.start()
        wait_for_waiters(shop.database)
        poster.commit()
        command.join()
    assert codes == [0]
    assert shop.ask("SELECT state FROM register_partitions('stock') LIMIT 1") == "detached"
    assert shop.problems() == []


def test_sizes_are_estimated(shop: Shop) -> None:
    """For people a table, for programs what register_stats() returns."""
    shop.post([element("r", "2026-01-05", warehouse, "x", quantity=1) for warehouse in range(100)])
    shop.rows("ANALYZE stock_movements, stock_totals_day")
    (found,) = read(tally(shop.database, "stats", "--json").check())
    assert (found["register"], found["movements_estimate"], found["partitions"]) == ("stock", 100, 1)
    lines = {
        line.split()[0]: line.split()[1:]
        for line in tally(shop.database, "stats", "stock").check().out.split("\n")[1:-1]
    }
    assert lines["stock_movements,"][:3] == ["1", "partitions", "100"]
    assert lines["stock_totals_day"][0] == "100"
    assert lines["stock_totals_day"][2] in {"kB", "MB"}


def test_without_a_register_there_is_nothing_to_do(database: Database) -> None:
    """That is said, and it is no failure."""
    assert tally(database, "verify").check().out == "there is no register yet\n"
    assert tally(database, "rebuild").check().out == "there is no register yet\n"


def test_cells_that_no_movement_explains_are_named(shop: Shop) -> None:
    """An invented row says what cell it claims to be; in a register without balances too."""
    shop.create("sold", kind="turnover")
    for table in ("stock_balance_cache", "sold_totals_year"):
        shop.rows(f"ALTER TABLE {table} DISABLE TRIGGER guard")
    shop.rows("INSERT INTO stock_balance_cache VALUES (7, 5, NULL, 1, 0, now(), 1)")
    shop.rows("INSERT INTO sold_totals_year VALUES (7, '2026-01-01', 5, NULL, 1, 0)")
    for found in read(tally(shop.database, "verify", "--json").check(1)):
        (invented,) = found["differences"]
        assert invented["status"].startswith("ORPHAN_IN_")
        assert invented["cell"] == {"warehouse": 5, "lot": None}
