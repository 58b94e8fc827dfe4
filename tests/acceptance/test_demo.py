"""`tallystream demo` as a visitor runs it: from the installed command, in a process of its own, without a terminal."""

import json
import re
import signal
import tempfile
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from stat import S_IMODE

import psutil
import psycopg
import pytest

from ingest.demo.blunders import BLUNDERS
from ingest.demo.readings import by_product
from ingest.demo.shop import INVENTORY, SALES, write_history
from tests.support.program import Program, run_tallystream
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

EVENTS = 2000
DEMO_TIMEOUT_S = 240
STOP_TIMEOUT_S = 60


@pytest.fixture
def folder() -> Iterator[Path]:
    """Where the demo puts what it needs. Not in pytest's folders: as root, PostgreSQL runs as a user they keep out."""
    with tempfile.TemporaryDirectory(prefix="demo-") as folder:
        yield Path(folder)


def left_in(folder: Path) -> list[Path]:
    """What is there still, apart from the lock that all servers of the package share."""
    return [path for path in folder.iterdir() if path.name != ".lockfile"]


def table(printed: str, title: str) -> Mapping[str, list[Decimal]]:
    """The numbers of a printed table by the name in the first column; its sums are under the empty name."""
    [part] = re.findall(rf"^{title}  .*\n.*\n((?:  .+\n)+)", printed, re.MULTILINE)
    rows = (re.split(r" {2,}", line.strip()) for line in part.splitlines())
    named = {(row[0] if row[0][0].isalpha() else ""): row[row[0][0].isalpha() :] for row in rows}
    return {name: [Decimal(number.replace(",", "")) for number in numbers] for name, numbers in named.items()}


def test_demo_prints_what_the_shop_knows_and_leaves_nothing_behind(folder: Path) -> None:
    """Balances, turnovers, dead letters with their reasons and the verdict are there, and they are right."""
    done = run_tallystream(
        "demo", "--seconds", "5", "--events", str(EVENTS), env={"TMPDIR": str(folder)}, timeout_s=DEMO_TIMEOUT_S
    ).check()
    books = write_history(1, EVENTS).books

    stock = by_product(books.balances(INVENTORY))
    printed = table(done.out, "Balances")
    assert {name: (numbers[-2], numbers[-1]) for name, numbers in printed.items() if name} == stock
    assert printed[""] == [sum(amount for _, amount in stock.values())]

    sold: dict[str, Decimal] = {}
    for (_, (product, _)), (_, revenue) in books.turnovers(SALES).items():
        sold[str(product)] = sold.get(str(product), Decimal(0)) + revenue
    turnovers = table(done.out, "Turnover by product")
    assert {name: numbers[1] for name, numbers in turnovers.items() if name} == sold
    assert all(numbers[1] == numbers[2] + numbers[3] for name, numbers in turnovers.items() if name)

    for blunder in BLUNDERS:
        assert re.search(rf"^  {blunder.reason} ", done.out, re.MULTILINE)
    assert f"{books.duplicates} duplicates and {books.stale} stale events were skipped" in done.out
    assert len(re.findall(r"^  ok  ", done.out, re.MULTILINE)) == 7
    assert done.out.rstrip().endswith("Everything agrees.")
    assert re.search(r"\d+ of 2,0\d\d events sent +\d+ events/s", done.out)
    assert "\x1b" not in done.out
    assert not done.err
    assert not left_in(folder)
    assert S_IMODE(folder.stat().st_mode) == 0o700, "left open to PostgreSQL's user"


def test_kept_servers_can_be_looked_at_until_told_to_stop(folder: Path, program: Callable[..., Program]) -> None:
    """The printed DSN and variables work as they stand, the workers go on, and being told to stop is no failure."""
    demo = program("demo", "--seconds", "1", "--events", "100", "--keep", env={"TMPDIR": str(folder)})
    demo.wait_until(lambda: "tallystream status" in demo.lines, DEMO_TIMEOUT_S, "the invitation to look around")
    exports = dict(re.findall(r"^export (\w+)='(.*)'$", "\n".join(demo.lines), re.MULTILINE))
    with psycopg.connect(exports["TALLYSTREAM_POSTGRES_DSN"]) as connection:
        [[balances]] = connection.execute("SELECT count(*) FROM accum.inventory_balances").fetchall()
    assert balances == len(write_history(1, 100).books.balances(INVENTORY))
    status = json.loads(run_tallystream("status", "--json", env=exports).check().out)
    assert {(partition["topic"], partition["lag_records"]) for partition in status["partitions"]} == {
        ("shop.events", 0)
    }

    assert demo.terminate(STOP_TIMEOUT_S) == 0
    assert not left_in(folder)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_demo_that_is_ended_leaves_nothing_behind(
    folder: Path, program: Callable[..., Program], by: signal.Signals
) -> None:
    """Not even a kill -9 leaves a server or a file."""
    demo = program("demo", env={"TMPDIR": str(folder)})
    demo.wait_until(lambda: any("share the 4 partitions" in line for line in demo.lines), DEMO_TIMEOUT_S, "the start")
    [kept] = left_in(folder)
    server = psutil.Process(int((kept / "pg" / "postmaster.pid").read_text().splitlines()[0]))
    psutil.Process(demo.pid).send_signal(by)
    demo.wait(STOP_TIMEOUT_S)
    wait_until(lambda: not left_in(folder), STOP_TIMEOUT_S, "the folder's removal")
    assert not server.is_running() or server.status() == psutil.STATUS_ZOMBIE
