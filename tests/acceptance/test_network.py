"""A network to PostgreSQL that is slow, silent, chopped or cut: batches are exact, waits bounded, locks freed."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ingest.domain.applying import Standing
from ingest.errors import TransientError
from tests.support.pipeline import Consumer, Pipeline, access_to, line, movement, repost
from tests.support.postgres import Database
from tests.support.sessions import Running
from tests.support.toxiproxy import Link, Network, Stream
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

# Short, so that a test sees them; the order of the two is that of a deployment.
STATEMENT_TIMEOUT_MS = 1_500
ANSWER_TIMEOUT_MS = 3_000
# A shared machine may be late, not this late.
SLACK_S = 10.0

DOCUMENTS = 40

# `make network` takes its time.
LONG = bool(os.environ.get("TALLYSTREAM_TEST_LONG"))


@pytest.fixture
def link(network: Network, database: Database) -> Iterator[Link]:
    """The way to the server over TCP."""
    server = conninfo_to_dict(database.dsn)
    host = str(server.get("host") or "127.0.0.1")
    made = network.link(f"{'127.0.0.1' if host.startswith('/') else host}:{server.get('port') or 5432}")
    yield made
    made.heal()


def far(pipeline: Pipeline, link: Link) -> Consumer:
    """A worker's store at the other end of the link."""
    dsn = make_conninfo(pipeline.database.dsn, host="127.0.0.1", port=link.port, sslmode="disable")
    store = pipeline.store()
    store.database = replace(
        access_to(pipeline.database, dsn),
        statement_timeout_ms=STATEMENT_TIMEOUT_MS,
        lock_timeout_ms=STATEMENT_TIMEOUT_MS,
        answer_timeout_ms=ANSWER_TIMEOUT_MS,
        connect_timeout_ms=2_000,
    )
    consumer = Consumer(pipeline, store)
    consumer.claim()
    return consumer


def send(pipeline: Pipeline, round_: int = 0) -> None:
    """A batch that posts documents and replaces others."""
    for number in range(DOCUMENTS):
        pipeline.send(movement(f"r{number}", line(number % 7, "2.5"), line(3, str(round_ + 1)), round=round_))
        pipeline.send(repost(f"r{number // 2}", line(number % 5, f"{round_}.125"), revision=round_ * 100 + number + 1))


def resolve(consumer: Consumer, batch: object) -> Standing:
    """What a worker does with a batch that failed for a passing reason: ask, and go on from there."""
    standing = consumer.store.standing(batch)  # type: ignore[arg-type]
    if standing is Standing.COMMITTED:
        consumer.advance(batch)  # type: ignore[arg-type]
    return standing


def documents(pipeline: Pipeline) -> int:
    """How many are known."""
    return pipeline.count("inventory_recorders")


@pytest.mark.scenario("N3")
@pytest.mark.parametrize(("stream", "stride"), [("upstream", 97 if LONG else 97 * 7), ("downstream", 97)])
def test_a_connection_that_is_cut_anywhere_in_a_batch(
    pipeline: Pipeline, link: Link, stream: Stream, stride: int
) -> None:
    """After so many bytes in one direction: the batch took place or not, and the positions tell which; never half."""
    consumer = far(pipeline, link)
    standings: list[Standing | None] = []
    for number, most in enumerate(range(97, 60_000, stride)):
        pipeline.send(*(movement(f"d{number}.{n}", line(n % 7)) for n in range(DOCUMENTS)))
        batch = consumer.batch()
        consumer.store.close()
        link.poison("limit_data", stream, bytes=most)
        try:
            consumer.apply(batch)
            standings.append(None)
        except TransientError:
            link.heal()
            standings.append(resolve(consumer, batch))
            if standings[-1] is not Standing.COMMITTED:
                consumer.apply(batch)
        link.heal()
        assert pipeline.count("inventory_movements") == DOCUMENTS * (number + 1)
        if standings[-2:] == [None, None]:
            break
    pipeline.check()
    assert standings.count(Standing.NOT_COMMITTED) >= 3
    assert Standing.FENCED not in standings
    assert standings[-1] is None, "the connection was never long enough for a batch"


@pytest.mark.scenario("N4", "N5")
@pytest.mark.parametrize("stream", [None, "downstream"], ids=["black hole", "half open"])
def test_silence_ends_within_its_bound(pipeline: Pipeline, link: Link, stream: Stream | None) -> None:
    """Nobody says that the line is dead: the worker gives up by itself, and the server frees what it had locked."""
    consumer = far(pipeline, link)
    send(pipeline)
    consumer.apply()
    send(pipeline, 1)
    batch = consumer.batch()
    with pipeline.database.connect() as holder:
        holder.execute("BEGIN")
        holder.execute("LOCK TABLE accum.inventory_movements IN SHARE MODE")
        begun = time.monotonic()
        # The batch waits for the lock when the line dies: it has locked positions and recorders by then.
        wait_for_batch = silenced_apply(pipeline, consumer, batch, link, stream)
        holder.execute("ROLLBACK")
    assert wait_for_batch() < ANSWER_TIMEOUT_MS / 1000 + SLACK_S
    with pytest.raises(TransientError):
        far_standing(consumer, batch)
    # Meanwhile another worker, whose line is good, is not held up for longer than the server lets sessions idle.
    other = pipeline.consumer("another")
    assert time.monotonic() - begun < 3 * STATEMENT_TIMEOUT_MS / 1000 + ANSWER_TIMEOUT_MS / 1000 + 2 * SLACK_S
    other.apply()
    link.heal()
    assert resolve(consumer, batch) is Standing.FENCED
    pipeline.check()
    sessions = "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
    wait_until(lambda: pipeline.value(sessions) == 0, SLACK_S, "no session is left in a transaction")


def silenced_apply(
    pipeline: Pipeline, consumer: Consumer, batch: object, link: Link, stream: Stream | None
) -> Callable[[], float]:
    """Applies a batch in a thread; the line goes silent when it waits for a lock. Returns how long that took."""

    def apply() -> float:
        began = time.monotonic()
        with pytest.raises(TransientError):
            consumer.store.apply(batch, pipeline.registry)  # type: ignore[arg-type]
        return time.monotonic() - began

    running = Running(apply)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    wait_until(lambda: pipeline.value(waiting), SLACK_S, "the batch waits for the lock")
    link.poison("timeout", stream, timeout=0)
    return running.result


def far_standing(consumer: Consumer, batch: object) -> Standing:
    """Asked while the line is still dead."""
    return consumer.store.standing(batch)  # type: ignore[arg-type]


@pytest.mark.scenario("N7")
def test_segments_of_one_byte(pipeline: Pipeline, link: Link) -> None:
    """However the bytes are cut into segments, it is the same batch."""
    link.poison("slicer", average_size=1, size_variation=0, delay=0)
    consumer = far(pipeline, link)
    pipeline.send(*(movement(f"r{n}", line(n)) for n in range(5)))
    consumer.apply()
    assert documents(pipeline) == 5
    pipeline.check()


@pytest.mark.scenario("N6")
def test_a_far_server_is_only_slow(pipeline: Pipeline, link: Link) -> None:
    """Delays that vary: batches take longer, and none of them fails."""
    consumer = far(pipeline, link)
    link.poison("latency", "downstream", latency=300, jitter=200)
    for round_ in range(2):
        send(pipeline, round_)
        consumer.apply()
    pipeline.check()
