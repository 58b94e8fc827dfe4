"""Too little memory for a large batch: whatever dies of it, whoever follows makes progress, and nothing is lost."""

import contextlib
import json
import resource
from pathlib import Path

import pytest

from tests.support.program import Program
from tests.support.stream import INVENTORY, Stream
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

MEGABYTE = 1024 * 1024
EVENTS, LINES = 48, 8_000
# For a batch of few events, and far below what one needs of the size that is set, which is all that there are.
ROOM = 46 * MEGABYTE
MOST_LIVES = 20


def events() -> list[bytes]:
    """Documents of some 700 kB each."""
    return [
        json.dumps(
            {
                "id": f"{number}",
                "type": "movement",
                "register": "inventory",
                "recorder": f"receipt:{number}",
                "period": "2026-04-18T10:00:00Z",
                "movements": [
                    {"warehouse": 1, "product": product, "lot": "A", "quantity": "1", "amount": "5.00"}
                    for product in range(LINES)
                ],
            }
        ).encode()
        for number in range(EVENTS)
    ]


def narrow(worker: Program) -> None:
    """Leaves it little more memory than it has now."""
    size = int(Path(f"/proc/{worker.pid}/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.prlimit(worker.pid, resource.RLIMIT_AS, (size + ROOM, size + ROOM))


@pytest.mark.scenario("W5")
def test_a_worker_without_the_memory_for_its_batches(stream: Stream) -> None:
    """It dies of them, and the next one reads smaller ones, although it knows nothing but the positions."""
    stream.extra = {
        "TALLYSTREAM_BATCH_MAX_MOVEMENTS": "1000000",
        "TALLYSTREAM_BATCH_MAX_EVENTS": "32",
        "TALLYSTREAM_BATCH_GROWTH": "1",
        "TALLYSTREAM_BATCH_MAX_BYTES": str(64 * MEGABYTE),
        "TALLYSTREAM_LANES": "1",
        "TALLYSTREAM_FLUSH_AFTER_MS": "2000",
        "TALLYSTREAM_KAFKA_OPTIONS": '{"queued.max.messages.kbytes": 2048, "fetch.message.max.bytes": 1000000}',
        "TALLYSTREAM_POLL_MAX_MESSAGES": "32",
        # One heap for all threads: how much of its addresses a process takes is then a matter of what it keeps.
        "MALLOC_ARENA_MAX": "1",
    }
    stream.declare(INVENTORY)
    lives: list[Program] = []

    def look() -> bool:
        if not lives or lives[-1].code is not None:
            assert len(lives) < MOST_LIVES, lives[-1].tail()
            lives.append(stream.start("run", env=stream.env))
            lives[-1].wait_for_log(event="partitions assigned")
            with contextlib.suppress(ProcessLookupError):
                narrow(lives[-1])
        return stream.read() == EVENTS

    stream.produce(events())
    wait_until(look, 240, "everything is read")
    assert lives[-1].terminate() == 0
    assert len(lives) > 1, "the memory was enough: this run shows nothing"
    with stream.database.connect() as connection:
        sums = connection.execute(
            "SELECT count(*), min(quantity), max(quantity) FROM accum.inventory_balances"
        ).fetchone()
        batches = connection.execute("SELECT max(events) FROM accum._batches").fetchone()
    assert sums == (LINES, EVENTS, EVENTS)
    assert batches
    assert batches[0] < EVENTS / 2
