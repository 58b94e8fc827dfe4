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
# What a worker gets beyond what it has, less in every round until it is too little for a batch of the size that is set:
# how much that needs differs by machine and version. For a few events it is always enough.
ROOMS = (64 * MEGABYTE, 52 * MEGABYTE, 42 * MEGABYTE, 34 * MEGABYTE)
MOST_LIVES = 20


def events(turn: int) -> list[bytes]:
    """Documents of some 700 kB each."""
    return [
        json.dumps(
            {
                "id": f"{turn}-{number}",
                "type": "movement",
                "register": "inventory",
                "recorder": f"receipt:{turn}-{number}",
                "period": "2026-04-18T10:00:00Z",
                "movements": [
                    {"warehouse": 1, "product": product, "lot": "A", "quantity": "1", "amount": "5.00"}
                    for product in range(LINES)
                ],
            }
        ).encode()
        for number in range(EVENTS)
    ]


def narrow(worker: Program, room: int) -> None:
    """Leaves it little more memory than it has now."""
    size = int(Path(f"/proc/{worker.pid}/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    with contextlib.suppress(ProcessLookupError):
        resource.prlimit(worker.pid, resource.RLIMIT_AS, (size + room, size + room))


def lives_until(stream: Stream, read: int, room: int) -> int:
    """How many workers it takes, one after the other, until so many events are read."""
    lives: list[Program] = []

    def look() -> bool:
        if not lives or lives[-1].code is not None:
            assert len(lives) < MOST_LIVES, lives[-1].tail()
            lives.append(stream.start("run", env=stream.env))
            lives[-1].wait_for_log(event="partitions assigned")
            narrow(lives[-1], room)
        return stream.read() == read

    wait_until(look, 240, "everything is read")
    assert lives[-1].terminate() == 0
    return len(lives)


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
        # Whatever the client unpacks at once has to fit, too: each event is sent alone, and few are fetched together.
        "TALLYSTREAM_KAFKA_OPTIONS": '{"queued.max.messages.kbytes": 2048, "fetch.message.max.bytes": 40000}',
        "TALLYSTREAM_POLL_MAX_MESSAGES": "32",
        # One heap for all threads: how much of its addresses a process takes is then a matter of what it keeps.
        "MALLOC_ARENA_MAX": "1",
    }
    stream.declare(INVENTORY)
    for turn, room in enumerate(ROOMS):
        with stream.database.connect() as connection:
            earlier = connection.execute("SELECT coalesce(max(batch_id), 0) FROM accum._batches").fetchone()
        for event in events(turn):
            stream.produce([event])
        if lives_until(stream, EVENTS * (turn + 1), room) > 1:
            break
    else:
        pytest.fail("the memory was enough: this run shows nothing")
    with stream.database.connect() as connection:
        sums = connection.execute(
            "SELECT count(*), min(quantity), max(quantity) FROM accum.inventory_balances"
        ).fetchone()
        largest = connection.execute(
            "SELECT sum(events) FROM accum._batches WHERE batch_id > %s GROUP BY batch_id ORDER BY 1 DESC LIMIT 1",
            earlier,
        ).fetchone()
    assert sums == (LINES, EVENTS * (turn + 1), EVENTS * (turn + 1))
    assert largest
    assert largest[0] < EVENTS / 2
