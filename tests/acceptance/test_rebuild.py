"""`tallystream rebuild --from-topic`, a real broker, a worker at work: a register that is wrong becomes right."""

import json
import random
import re
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from ingest.demo.shop import INVENTORY, History, write_history
from tests.support.downloads import ROOT
from tests.support.program import Done, small_batches
from tests.support.shop_books import compare
from tests.support.stream import Stream
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DECLARATIONS = ROOT / "schema" / "registers" / "demo" / "shop.toml"
EVENTS = 2_000
PORTION = 20
FEW = 300
KILLS = 3
WAIT_S = 120
ENOUGH = 0.9
"""Of the movements at the beginning: documents are cancelled too, but never a tenth of them."""

DAMAGE = (
    "DELETE FROM accum.inventory_movements WHERE id % 50 = 7",
    "ALTER TABLE accum.inventory_totals_day DISABLE TRIGGER guard",
    "DELETE FROM accum.inventory_totals_day WHERE dim_hash % 3 = 0",
    "ALTER TABLE accum.inventory_totals_day ENABLE TRIGGER guard",
)
READING = """
    SELECT (SELECT count(*) FROM accum.inventory_journal), (SELECT sum(quantity) FROM accum.inventory_journal),
        (SELECT sum(quantity) FROM accum.inventory_balances), (accum.inventory_balance() ->> 'quantity')::numeric
"""


def rebuilt(done: Done) -> Any:  # noqa: ANN401 - any JSON
    """What the command printed for programs."""
    return json.loads(done.out)


@contextmanager
def reading(stream: Stream) -> Iterator[list[tuple[Any, ...]]]:
    """A reader that asks again and again, in one statement and without pause: what it saw."""
    seen: list[tuple[Any, ...]] = []
    stop = threading.Event()

    def read() -> None:
        with stream.database.connect() as connection:
            while not stop.is_set():
                seen.extend(connection.execute(READING.encode()).fetchall())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        yield seen
    finally:
        stop.set()
        reader.join()


class Feeding:
    """Records sent in small portions until `finish`, which sends what is left: the stream is never at rest before."""

    def __init__(self, stream: Stream, records: Sequence[tuple[bytes, bytes]]) -> None:
        self._stream = stream
        self._portions = [records[start : start + PORTION] for start in range(0, len(records), PORTION)]
        self._enough = threading.Event()
        self.sent = 0
        self._thread = threading.Thread(target=self._feed)
        self._thread.start()

    def _feed(self) -> None:
        while self.sent < len(self._portions) and not self._enough.is_set():
            self._stream.produce_keyed(self._portions[self.sent])
            self.sent += 1
            self._stream.wait_until_read()

    def is_under_way(self) -> bool:
        return self._thread.is_alive()

    def finish(self) -> None:
        self._enough.set()
        self._thread.join()
        for portion in self._portions[self.sent :]:
            self._stream.produce_keyed(portion)
        self._stream.wait_until_read()


def damaged(stream: Stream, rng: random.Random) -> tuple[History, list[tuple[bytes, bytes]]]:
    """Half of the shop's year has been applied, and then the register was damaged; the other half is still to come."""
    stream.extra |= small_batches(50)
    history = write_history(rng.randrange(2**32), EVENTS)
    records = [(event.key, event.value) for event in history.events]
    stream.declare(DECLARATIONS.read_text(encoding="utf-8"))
    stream.worker()
    stream.produce_keyed(records[: EVENTS // 2])
    stream.wait_until_read()
    with stream.database.connect() as connection:
        for statement in DAMAGE:
            connection.execute(statement.encode())
    return history, records[EVENTS // 2 :]


def killed(stream: Stream, lines: int) -> bool:
    """kill -9 of a rebuild that has logged so many lines; whether it was still at work."""
    rebuilding = stream.start("rebuild", INVENTORY, "--from-topic", env=stream.env)
    wait_until(lambda: rebuilding.code is not None or len(rebuilding.logs) >= lines, WAIT_S, "a place to kill it")
    at_work = rebuilding.code is None
    rebuilding.kill()
    return at_work


def check(stream: Stream, history: History) -> None:
    """Everything is what the books say, and the stream has counted every event once."""
    stream.run("verify").check()
    compare(stream, history.books)
    counts = stream.counts()
    assert sum(counts.values()) == len(history.events)
    assert counts["dead_letters"] == history.books.refused.total()


def test_a_damaged_register_is_rebuilt_while_the_stream_runs(stream: Stream, rng: random.Random) -> None:
    """Readers see the old register or the new one, the stream never stops, and the result is what the books say."""
    history, records = damaged(stream, rng)
    looked = stream.run("rebuild", INVENTORY, "--from-topic", "--dry-run", "--json").check(1)
    assert rebuilt(looked)["found"]["balance"] > 0
    stream.run("verify", INVENTORY).check(1)
    with reading(stream) as seen:
        feeding = Feeding(stream, records)
        wait_until(lambda: feeding.sent > 1, WAIT_S, "the stream flows")
        sent = feeding.sent
        done = rebuilt(stream.run("rebuild", INVENTORY, "--from-topic", "--json").check())
        assert feeding.sent > sent or feeding.is_under_way(), "the stream was at rest: this run shows nothing"
        feeding.finish()
    assert done["exchanged"]
    assert min(count for count, *_ in seen) > ENOUGH * seen[0][0]
    assert [row for row in seen if not row[1] == row[2] == row[3]] == []
    check(stream, history)
    again = rebuilt(stream.run("rebuild", INVENTORY, "--from-topic", "--dry-run", "--json").check())
    assert (again["found"], again["exchanged"]) == ({}, False)
    stream.stop()


def test_a_rebuild_that_is_killed_resumes(stream: Stream, rng: random.Random) -> None:
    """kill -9 at random places, with the stream at work: each run goes on where the last one ended."""
    history, records = damaged(stream, rng)
    feeding = Feeding(stream, records)
    hits = sum(killed(stream, rng.randrange(1, 4)) for _ in range(KILLS))
    assert hits, "every rebuild was over before its kill: this run shows nothing"
    done = rebuilt(stream.run("rebuild", INVENTORY, "--from-topic", "--json").check())
    feeding.finish()
    assert done["exchanged"]
    check(stream, history)
    with stream.database.connect() as connection:
        left = connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'shadow%'").fetchall()
        assert left == [(0,)]
    stream.stop()


def test_a_mapping_shows_what_would_be(stream: Stream, rng: random.Random, tmp_path: Path) -> None:
    """One warehouse merged into another, beside a stream that goes on: shown per cell, and nothing is changed."""
    history = write_history(rng.randrange(2**32), FEW)
    stream.declare(DECLARATIONS.read_text(encoding="utf-8"))
    stream.produce_keyed([(event.key, event.value) for event in history.events])
    stream.worker()
    stream.wait_until_read()
    with stream.database.connect() as connection:
        of_warehouses = "SELECT warehouse, sum(quantity) FROM accum.inventory_balances GROUP BY 1 ORDER BY 1"
        live: dict[str, Decimal] = dict(connection.execute(of_warehouses).fetchall())
    kept, merged, *_ = live
    file = tmp_path / "what-if.toml"
    file.write_text(
        f'[[mapping.inventory]]\nwhere.warehouse = "{merged}"\nset.warehouse = "{kept}"\n', encoding="utf-8"
    )
    asked = ("rebuild", INVENTORY, "--from-topic", "--mapping", str(file))
    assert "--mapping is a what-if" in stream.run(*asked).check(2).err
    done = json.loads(
        stream.run(*asked, "--dry-run", "--most", "100000", "--json").check(1).out,
        parse_float=Decimal,
        parse_int=Decimal,
    )
    moved: defaultdict[str, Decimal] = defaultdict(Decimal)
    for difference in done["differences"]:
        if difference["grain"] == "balance":
            before, after = (Decimal((difference[side] or {"quantity": 0})["quantity"]) for side in ("live", "rebuilt"))
            moved[difference["cell"]["warehouse"]] += after - before
    assert {warehouse: change for warehouse, change in moved.items() if change} == {
        kept: live[merged],
        merged: -live[merged],
    }
    assert done["movements_by_rule"]["1"] > 0
    shown = stream.run(*asked, "--dry-run").check(1).out
    assert re.search(r"rule 1 of the mapping: [1-9]", shown)
    assert "nothing was changed" in shown
    check(stream, history)
    stream.stop()


def test_a_document_is_explained_from_its_topic(stream: Stream) -> None:
    """Duplicates and stale events, which no table has, at their offsets; a refused one with its reason."""
    stream.declare(DECLARATIONS.read_text(encoding="utf-8"))
    line = {"warehouse": "w", "product": "p", "lot": "A", "quantity": "5", "amount": "1"}
    first: dict[str, Any] = {
        "id": "a",
        "type": "movement",
        "register": INVENTORY,
        "recorder": "receipt:1",
        "revision": 2,
    }
    first |= {"period": "2026-04-18T10:00:00Z", "movements": [line]}
    changes: list[dict[str, Any]] = [{}, {}, {"id": "b", "revision": 1}, {"movements": []}, {"recorder": "r2"}]
    events = [first | change for change in changes]
    stream.produce_keyed([(event["recorder"].encode(), json.dumps(event).encode()) for event in events])
    stream.worker()
    stream.wait_until_read()
    [found] = json.loads(stream.run("explain", "receipt:1", "--from-topic", "--json").check().out)
    assert found["not_known"] == []
    outcomes = [(event["outcome"], event["event_id"], event["reason"]) for event in found["in_topic"]]
    assert outcomes == [
        ("applied", "a", None),
        ("duplicate", "a", None),
        ("stale", "b", None),
        ("dead_letter", "a", "no_movements"),
    ]
    offsets = [event["offset"] for event in found["in_topic"]]
    assert (offsets, found["events"][0]["offset"]) == (sorted(offsets), offsets[0])
    shown = stream.run("explain", "receipt:1", "--from-topic").check().out
    assert "dead_letter no_movements" in shown
    stream.stop()
