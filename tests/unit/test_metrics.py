"""The table of metrics: names and labels as Prometheus wants them, and values as the loops wrote them down."""

from collections.abc import Mapping
from typing import Any

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from ingest.domain.applying import Applied, Claims
from ingest.domain.batches import Batch, Span
from ingest.domain.compacting import PendingDeltas
from ingest.domain.health import compactor_health, worker_health
from ingest.domain.messages import Message, Reason, Refusal
from ingest.domain.overview import Overview
from ingest.domain.plans import Outcome
from ingest.domain.positions import Claim, TopicPartition
from ingest.domain.progress import KafkaState, LogEnd, Progress, Tally
from ingest.errors import PositionError
from ingest.observability.metrics import COMPACTOR, WORKER, Kind, Metric, Moment, exposition

NOW = 1_000.0
WALL_MS = 5_000_000.0
ZERO, ONE = TopicPartition("sales", 0), TopicPartition("sales", 1)
ROWS: tuple[Metric[Any], ...] = (*WORKER, *COMPACTOR)
TABLE = {metric.name: metric for metric in ROWS}


def worker(progress: Progress, *, postgres_up: bool = True) -> Moment[Progress]:
    """What a scrape of this worker sees."""
    health = worker_health(progress, postgres_up=postgres_up, now=NOW, live_timeout_s=60)
    return Moment(progress, health, postgres_up, None, 7, NOW, WALL_MS)


def compactor(tally: Tally, overview: Overview | None = None) -> Moment[Tally]:
    """What a scrape of this compactor sees."""
    health = compactor_health(tally, postgres_up=True, now=NOW, live_timeout_s=60)
    return Moment(tally, health, postgres_up=True, overview=overview, lines_dropped=0, now=NOW, wall_ms=WALL_MS)


def scrape(table: tuple[Metric[Any], ...], moment: Moment[Any]) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """What a scrape of this moment tells, less what the process tells about itself."""
    _, body = exposition(table, lambda: moment)("")
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in parse(body.decode())
        for sample in family.samples
        if sample.name.startswith("tallystream_")
    }


def value(samples: Mapping[tuple[str, frozenset[tuple[str, str]]], float], name: str, **labels: str) -> float:
    """The sample with exactly these labels."""
    return samples[name, frozenset(labels.items())]


def batch(next_offset: int, timestamp_ms: int | None) -> Batch:
    """A batch of one refused event that moves partition 0 to this offset."""
    message = Message("sales", 0, next_offset - 1, timestamp_ms, None, None)
    return Batch(
        (Refusal(message, Reason.NOT_JSON, "", ""),), (Span(Claim(ZERO, 1, 0, 1), next_offset, timestamp_ms),), 1
    )


def busy() -> Progress:
    """A worker that has applied something, is behind in one partition and may not read another."""
    progress = Progress()
    progress.loop.turn(NOW - 2)
    progress.claim(Claims((Claim(ZERO, 1, 10, 1),), ((ONE, PositionError("offsets 1..9 are gone")),)), NOW - 100)
    seconds = {"commit": 0.02, "movements": 0.5}
    outcomes = {Outcome.APPLIED: 3, Outcome.DEAD_LETTER: 1}
    progress.add(batch(14, 4_990_000), Applied(1, outcomes, {Reason.NOT_JSON: 1}, 6, {"inventory": 6}, seconds))
    progress.see(KafkaState(connected=True, joined=True, ends={ZERO: LogEnd(20, 2)}, unclaimed=frozenset({ONE})), NOW)
    return progress


@pytest.mark.parametrize("metric", TABLE.values(), ids=TABLE)
def test_names_and_labels_follow_the_rules(metric: Metric[Any]) -> None:
    """One prefix; counters end in _total and nothing else does; labels are words; the help is a sentence."""
    assert metric.name.startswith("tallystream_")
    assert metric.name.endswith("_total") == (metric.kind is Kind.COUNTER)
    assert all(label.isidentifier() and label == label.lower() for label in metric.labels)
    assert metric.help[0].isupper()
    assert metric.help.endswith(".")
    assert not set(metric.name.split("_")) & {"ms", "sec", "bytes", "count", "sum", "bucket"}


def test_a_name_means_one_thing() -> None:
    """Within a process a name is in the table once; where both processes have it, it is the same row."""
    for table in (WORKER, COMPACTOR):
        assert len({metric.name for metric in table}) == len(table)
    shared = {metric.name for metric in WORKER} & {metric.name for metric in COMPACTOR}
    assert all(TABLE[name] in WORKER for name in shared)


def test_what_a_worker_did() -> None:
    """Counts are those of committed batches."""
    found = scrape(WORKER, worker(busy()))
    assert value(found, "tallystream_batches_total") == 1
    assert value(found, "tallystream_events_total", outcome="applied") == 3
    assert value(found, "tallystream_events_total", outcome="stale") == 0
    assert value(found, "tallystream_dead_letters_total", reason="not_json") == 1
    assert value(found, "tallystream_dead_letters_total", reason="too_large") == 0
    assert value(found, "tallystream_movements_total", register="inventory") == 6
    assert value(found, "tallystream_phase_seconds_total", thread="applying", phase="movements") == 0.5
    assert value(found, "tallystream_phase_seconds_total", thread="reading", phase="decode") == 0
    assert value(found, "tallystream_log_lines_dropped_total") == 7


def test_where_a_worker_stands() -> None:
    """Lag is the log's end less the position that is committed; what cannot be read is told."""
    found = scrape(WORKER, worker(busy()))
    zero = {"topic": "sales", "partition": "0"}
    assert value(found, "tallystream_position_offset", **zero) == 14
    assert value(found, "tallystream_lag_records", **zero) == 6
    assert value(found, "tallystream_lag_seconds", **zero) == 10
    assert value(found, "tallystream_held_back_records", **zero) == 2
    assert value(found, "tallystream_partition_stopped", **zero) == 0
    assert value(found, "tallystream_partition_stopped", topic="sales", partition="1") == 1
    assert value(found, "tallystream_ready") == 1
    assert value(found, "tallystream_loop_age_seconds") == 2


def test_a_histogram_counts_what_is_at_most_its_bound() -> None:
    """Buckets add up, the last one is everything, and the sum is exact."""
    found = scrape(WORKER, worker(busy()))
    buckets = {
        dict(labels)["le"]: count
        for (name, labels), count in found.items()
        if name == "tallystream_commit_duration_seconds_bucket"
    }
    assert (buckets["0.01"], buckets["0.025"], buckets["+Inf"]) == (0, 1, 1)
    assert value(found, "tallystream_commit_duration_seconds_sum") == 0.02
    assert value(found, "tallystream_batch_duration_seconds_sum") == 0.52
    assert value(found, "tallystream_batch_events_count") == 1


def test_what_a_compactor_tells() -> None:
    """What it did, what waits, and which dead letters nobody has looked at."""
    waiting = PendingDeltas("sales", high_write=True, deltas=12, age_s=4.5)
    empty = PendingDeltas("old", high_write=False, deltas=0, age_s=None)
    tally = Tally(slices=2, deltas=30)
    found = scrape(
        COMPACTOR,
        compactor(tally, Overview(pending=(waiting, empty), waiting={"not_json": 3}, oldest_snapshot=7, dead_rows=8)),
    )
    assert value(found, "tallystream_compactor_deltas_total") == 30
    assert value(found, "tallystream_pending_deltas", register="sales") == 12
    assert value(found, "tallystream_pending_delta_age_seconds", register="sales") == 4.5
    assert value(found, "tallystream_pending_delta_age_seconds", register="old") == 0
    assert value(found, "tallystream_dead_letters_waiting", reason="not_json") == 3
    assert value(found, "tallystream_dead_letters_waiting", reason="too_large") == 0
    assert value(found, "tallystream_oldest_snapshot_transactions") == 7
    assert value(found, "tallystream_dead_rows") == 8
    assert value(found, "tallystream_ready") == 0


def test_a_process_that_has_done_nothing_can_be_scraped() -> None:
    """Counters are there from the start, at 0: an increase from nothing would not be seen."""
    found = scrape(WORKER, worker(Progress(), postgres_up=False))
    assert value(found, "tallystream_dead_letters_total", reason="not_json") == 0
    assert value(found, "tallystream_postgres_up") == 0
    assert value(found, "tallystream_ready") == 0
    assert {name for name, _ in scrape(COMPACTOR, compactor(Tally()))} >= {"tallystream_compactor_slices_total"}


@pytest.mark.parametrize("form", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_both_forms_have_every_row(form: str) -> None:
    """Prometheus asks for OpenMetrics, a person gets text; each row of the table is in both."""
    content_type, body = exposition(WORKER, lambda: worker(busy()))(form)
    assert content_type.startswith(form.partition(";")[0])
    read = parse_openmetrics if form.startswith("application") else parse
    families = {family.name for family in read(body.decode())}
    assert {metric.name.removesuffix("_total") for metric in WORKER} <= families
