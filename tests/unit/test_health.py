"""Alive and ready: what each of them depends on, and what it does not."""

import pytest

from ingest.domain.applying import Applied, Claims
from ingest.domain.batches import Batch, Span
from ingest.domain.health import Health, compactor_health, worker_health
from ingest.domain.positions import Claim, TopicPartition
from ingest.domain.progress import Histogram, KafkaState, LogEnd, Progress, Tally
from ingest.errors import PositionError

NOW = 500.0
PARTITION = TopicPartition("sales", 0)
CLAIM = Claim(PARTITION, 1, 10, 1)
STOPPED = (PARTITION, PositionError("gone"))


def worker(
    *,
    connected: bool = True,
    joined: bool = True,
    claims: Claims | None = None,
    turned_at: float | None = NOW,
    stopping: bool = False,
    failing: bool = False,
    undecoded_at: float | None = None,
    postgres_up: bool = True,
) -> Health:
    """A worker that has nothing to complain of, but for what is said."""
    progress = Progress()
    progress.claim(Claims((CLAIM,), ()) if claims is None else claims, NOW)
    unclaimed = frozenset(tp for tp, _ in progress.stopped.items())
    progress.see(KafkaState(connected=connected, joined=joined, unclaimed=unclaimed), NOW)
    progress.loop.turned_at, progress.loop.stopping, progress.loop.failing = turned_at, stopping, failing
    progress.undecoded_at = undecoded_at
    return worker_health(progress, postgres_up=postgres_up, now=NOW, live_timeout_s=60)


def failed(health: Health) -> set[str]:
    """The names of the conditions that do not hold."""
    return {check.name for check in (*health.live, *health.ready) if not check.ok}


@pytest.mark.parametrize(
    ("health", "expected"),
    [
        (worker(), set()),
        (worker(claims=Claims((), ())), set()),
        (worker(claims=Claims((CLAIM,), ((TopicPartition("sales", 1), PositionError("gone")),))), set()),
        (worker(turned_at=None), {"running"}),
        (worker(turned_at=NOW - 59), set()),
        (worker(turned_at=NOW - 61), {"loop"}),
        (worker(stopping=True), {"running"}),
        (worker(failing=True), {"applying"}),
        (worker(undecoded_at=NOW - 59), {"decoding"}),
        (worker(undecoded_at=NOW - 61), set()),
        (worker(postgres_up=False), {"postgres"}),
        (worker(connected=False), {"kafka"}),
        (worker(connected=False, joined=False, claims=Claims((), ())), {"kafka", "group"}),
        (worker(joined=False), set()),
        (worker(claims=Claims((), (STOPPED,))), {"partitions"}),
    ],
)
def test_what_a_worker_fails_on(health: Health, expected: set[str]) -> None:
    """Each condition by itself; a spare worker is ready, and one that reads some of its partitions is, too."""
    assert failed(health) == expected
    assert health.is_ready == (not expected - {"loop"})
    assert health.is_live == ("loop" not in expected)


def test_liveness_is_independent_of_servers() -> None:
    """With everything away a worker whose loop turns is alive: a restart would mend nothing."""
    health = worker(connected=False, joined=False, postgres_up=False, failing=True, claims=Claims((), ()))
    assert health.is_live
    assert not health.is_ready


def test_what_a_compactor_fails_on() -> None:
    """It needs PostgreSQL alone."""
    tally = Tally()
    tally.loop.turn(NOW)
    assert compactor_health(tally, postgres_up=True, now=NOW, live_timeout_s=60).is_ready
    assert failed(compactor_health(tally, postgres_up=False, now=NOW, live_timeout_s=60)) == {"postgres"}
    assert failed(compactor_health(tally, postgres_up=True, now=NOW + 61, live_timeout_s=60)) == {"loop"}


def progress_at(position: int, end: int, *, event_ms: int | None, level_at: float) -> Progress:
    """A worker that was level at that time, and is at this position of this log now."""
    progress = Progress()
    progress.claim(Claims((CLAIM,), ()), level_at)
    progress.see(KafkaState(connected=True, joined=True, ends={PARTITION: LogEnd(CLAIM.next_offset)}), level_at)
    progress.add(Batch((), (Span(CLAIM, position, event_ms),), 1), Applied())
    progress.see(KafkaState(connected=True, joined=True, ends={PARTITION: LogEnd(end)}), NOW)
    return progress


@pytest.mark.parametrize(
    ("position", "end", "event_ms", "level_at", "records", "seconds"),
    [
        (20, 20, 1_000, NOW - 90, 0, 0.0),
        (15, 20, 70_000, NOW - 90, 5, 30.0),
        (15, 20, 1_000, NOW - 3, 5, 3.0),
        (15, 20, None, NOW - 90, 5, 90.0),
        (15, 20, 900_000, NOW - 90, 5, 0.0),
        (25, 20, 1_000, NOW - 90, 0, 0.0),
    ],
    ids=["level", "behind", "the first event after a long pause", "no times", "a clock that is ahead", "an old answer"],
)
def test_lag(position: int, end: int, event_ms: int | None, level_at: float, records: int, seconds: float) -> None:
    """Records between position and end; seconds since the last applied event, no more than since nothing waited."""
    reach = progress_at(position, end, event_ms=event_ms, level_at=level_at).reaches[PARTITION]
    assert (reach.lag_records, reach.lag_s(NOW, 100_000)) == (records, seconds)


def test_lag_of_a_partition_that_was_never_level() -> None:
    """A worker that begins hours behind says so with its first batch, and not that it began a minute ago."""
    progress = Progress()
    progress.claim(Claims((CLAIM,), ()), NOW - 60)
    ends = {PARTITION: LogEnd(20)}
    progress.see(KafkaState(connected=True, joined=True, ends=ends), NOW)
    assert progress.reaches[PARTITION].lag_s(NOW, 9_000_000) == 60.0
    progress.add(Batch((), (Span(CLAIM, 15, 1_000),), 1), Applied())
    assert progress.reaches[PARTITION].lag_s(NOW, 9_000_000) == 8999.0


def test_lag_is_unknown_before_the_broker_tells() -> None:
    """Nothing is made up: neither a lag nor its absence."""
    progress = Progress()
    progress.claim(Claims((CLAIM,), ()), NOW)
    assert (progress.reaches[PARTITION].lag_records, progress.reaches[PARTITION].lag_s(NOW, 0)) == (None, None)


def test_a_partition_that_left_is_forgotten() -> None:
    """Neither its lag nor that it was stopped is told by a worker to which it was not given any more."""
    progress = Progress()
    progress.claim(Claims((CLAIM,), ((TopicPartition("sales", 1), PositionError("gone")),)), NOW)
    progress.release([PARTITION])
    progress.see(KafkaState(connected=True, joined=True), NOW)
    assert (progress.reaches, progress.stopped) == ({}, {})


def test_buckets_of_a_histogram() -> None:
    """A value that equals a bound is counted with it."""
    histogram = Histogram((1.0, 10.0))
    for value in (0.5, 1.0, 1.5, 10.0, 11.0):
        histogram.add(value)
    assert (histogram.counts, histogram.total) == ([2, 2, 1], 24.0)
