"""Workers that are killed in the middle of their work: the shop's books, kept by other means, still agree."""

import random

import pytest

from ingest.demo.shop import write_history
from tests.support.downloads import ROOT
from tests.support.program import small_batches
from tests.support.shop_books import compare
from tests.support.stream import Stream

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DECLARATIONS = ROOT / "schema" / "registers" / "demo" / "shop.toml"
EVENTS = 5_000
KILLS = 4


@pytest.mark.scenario("W1")
def test_kill_9_changes_nothing(stream: Stream, rng: random.Random) -> None:
    """Four kills of two workers: every cell and day, every count of events, and Kafka's offsets are right."""
    # Small batches: a kill finds some committed, one under way, and many to come.
    stream.extra |= small_batches(10)
    history = write_history(rng.randrange(2**32), EVENTS)
    stream.declare(DECLARATIONS.read_text(encoding="utf-8"))
    stream.worker()
    stream.worker()
    stream.kill_while_reading([(event.key, event.value) for event in history.events], rng, KILLS)
    stream.wait_until_read()
    compare(stream, history.books)
    counts = stream.counts()
    assert sum(counts.values()) == len(history.events)
    assert (counts["duplicates"], counts["stale"]) == (history.books.duplicates, history.books.stale)
    assert counts["dead_letters"] == history.books.refused.total()
    stream.wait_until_mirrored()
    stream.stop()
