"""`tallystream rebuild --from-topic`, a real broker, a worker at work: a register that is wrong becomes right."""

import json
import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ingest.demo.shop import INVENTORY, write_history
from tests.support.downloads import ROOT
from tests.support.program import Done
from tests.support.shop_books import compare
from tests.support.stream import Stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DECLARATIONS = ROOT / "schema" / "registers" / "demo" / "shop.toml"
EVENTS = 3_000
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


def test_a_damaged_register_is_rebuilt_while_the_stream_runs(stream: Stream, rng: random.Random) -> None:
    """Readers see the old register or the new one, the stream never stops, and the result is what the books say."""
    stream.extra["TALLYSTREAM_BATCH_MAX_EVENTS"] = "50"
    history = write_history(rng.randrange(2**32), EVENTS)
    records = [(event.key, event.value) for event in history.events]
    stream.declare(DECLARATIONS.read_text(encoding="utf-8"))
    stream.worker()
    stream.produce_keyed(records[: EVENTS // 2])
    stream.wait_until_read()
    with stream.database.connect() as connection:
        for statement in DAMAGE:
            connection.execute(statement.encode())

    looked = stream.run("rebuild", INVENTORY, "--from-topic", "--dry-run", "--json").check(1)
    assert rebuilt(looked)["found"]["balance"] > 0
    assert stream.run("verify", INVENTORY).code == 1

    producing = threading.Thread(target=stream.produce_keyed, args=(records[EVENTS // 2 :],))
    with reading(stream) as seen:
        producing.start()
        done = rebuilt(stream.run("rebuild", INVENTORY, "--from-topic", "--json").check())
        producing.join()
        stream.wait_until_read()

    assert done["exchanged"]
    assert min(count for count, *_ in seen) > ENOUGH * seen[0][0]
    assert [row for row in seen if not row[1] == row[2] == row[3]] == []
    stream.run("verify").check()
    compare(stream, history.books)
    again = rebuilt(stream.run("rebuild", INVENTORY, "--from-topic", "--dry-run", "--json").check())
    assert (again["found"], again["exchanged"]) == ({}, False)
    counts = stream.counts()
    assert sum(counts.values()) == len(history.events)
    assert counts["dead_letters"] == history.books.refused.total()
    stream.stop()
