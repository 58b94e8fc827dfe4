"""Every metric in one table: its name with the unit last, what it counts, its labels, and the one place that reads it.

Nothing is counted for metrics alone: a scrape reads what the process's loop wrote down anyway, so they cost the loop
nothing. Labels are bounded: partitions that this process reads, declared registers, and words of the program itself.
Counters begin at 0 with the process. Rules and the dashboard (`helm/tallystream/files`) are checked against this table.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, TypeAlias, TypeVar

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from ingest import __version__
from ingest.domain.compacting import PendingDeltas
from ingest.domain.health import Health
from ingest.domain.messages import Reason
from ingest.domain.overview import Overview
from ingest.domain.plans import Outcome
from ingest.domain.positions import TopicPartition
from ingest.domain.progress import READING, Histogram, Progress, Tally, Work

T = TypeVar("T", bound=Work)
Sample: TypeAlias = tuple[tuple[str, ...], float]


class Kind(StrEnum):
    """How Prometheus treats a metric."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Moment(Generic[T]):
    """What a scrape sees: `now` is of the loop's steady clock, `wall_ms` of the calendar's."""

    work: T
    health: Health
    postgres_up: bool
    overview: Overview | None
    lines_dropped: int
    now: float
    wall_ms: float


@dataclass(frozen=True, slots=True)
class Metric(Generic[T]):
    """One row of the table; a histogram's reader returns the histogram, every other one samples."""

    name: str
    kind: Kind
    help: str
    read: Callable[[Moment[T]], "Iterable[Sample] | Histogram"]
    labels: tuple[str, ...] = ()


_COMMON: Final[tuple[Metric[Any], ...]] = (
    Metric(
        "tallystream_build_info",
        Kind.GAUGE,
        "Always 1; the label says which version runs.",
        lambda _: [((__version__,), 1)],
        ("version",),
    ),
    Metric(
        "tallystream_ready",
        Kind.GAUGE,
        "Whether /ready says yes: an event that arrived now would be applied now.",
        lambda m: _one(m.health.is_ready),
    ),
    Metric(
        "tallystream_postgres_up",
        Kind.GAUGE,
        "Whether PostgreSQL answered a moment ago and takes writes.",
        lambda m: _one(m.postgres_up),
    ),
    Metric(
        "tallystream_loop_age_seconds",
        Kind.GAUGE,
        "Time since the process's loop came by; /live fails when it is live_timeout_ms.",
        lambda m: [] if m.work.loop.turned_at is None else _one(max(0.0, m.now - m.work.loop.turned_at)),
    ),
    Metric(
        "tallystream_failing",
        Kind.GAUGE,
        "Whether what the process does in PostgreSQL fails at the moment and is tried again.",
        lambda m: _one(m.work.loop.failing),
    ),
    Metric(
        "tallystream_log_lines_dropped_total",
        Kind.COUNTER,
        "Log lines that were dropped because nobody read the ones before.",
        lambda m: _one(m.lines_dropped),
    ),
)


WORKER: Final[tuple[Metric[Progress], ...]] = (
    *_COMMON,
    Metric(
        "tallystream_kafka_up",
        Kind.GAUGE,
        "Whether a connection to a broker stands.",
        lambda m: _one(m.work.kafka.connected),
    ),
    Metric("tallystream_batches_total", Kind.COUNTER, "Batches that were committed.", lambda m: _one(m.work.batches)),
    Metric(
        "tallystream_events_total",
        Kind.COUNTER,
        "Events of committed batches, by what became of them.",
        lambda m: [((outcome.value,), m.work.outcomes[outcome]) for outcome in Outcome],
        ("outcome",),
    ),
    Metric(
        "tallystream_movements_total",
        Kind.COUNTER,
        "Movements that were written, by register.",
        lambda m: [((name,), count) for name, count in sorted(m.work.registers.copy().items())],
        ("register",),
    ),
    Metric(
        "tallystream_dead_letters_total",
        Kind.COUNTER,
        "Events that were refused, by reason.",
        lambda m: [((reason.value,), m.work.reasons[reason]) for reason in Reason],
        ("reason",),
    ),
    Metric(
        "tallystream_retries_total",
        Kind.COUNTER,
        "Attempts to apply a batch that failed for a passing reason.",
        lambda m: _one(m.work.retries),
    ),
    Metric(
        "tallystream_fenced_total",
        Kind.COUNTER,
        "Batches that were dropped because another worker owns their partitions, or their topic was created anew.",
        lambda m: _one(m.work.fenced),
    ),
    Metric(
        "tallystream_phase_seconds_total",
        Kind.COUNTER,
        "Time by phase: of the thread that reads (poll, idle, decode, held_back), and of all lanes, which apply.",
        lambda m: [
            ((_thread(phase), phase), spent)
            for phase, spent in sorted({**dict.fromkeys(READING, 0.0), **m.work.seconds.copy()}.items())
        ],
        ("thread", "phase"),
    ),
    Metric(
        "tallystream_batch_events",
        Kind.HISTOGRAM,
        "Events of each committed batch.",
        lambda m: m.work.batch_events,
    ),
    Metric(
        "tallystream_batch_duration_seconds",
        Kind.HISTOGRAM,
        "Time to apply and commit a batch, its last attempt.",
        lambda m: m.work.batch_seconds,
    ),
    Metric(
        "tallystream_commit_duration_seconds",
        Kind.HISTOGRAM,
        "Time of COMMIT alone.",
        lambda m: m.work.commit_seconds,
    ),
    Metric(
        "tallystream_position_offset",
        Kind.GAUGE,
        "The next offset to read, as committed in PostgreSQL.",
        lambda m: [(_key(tp), reach.next_offset) for tp, reach in m.work.reaches.copy().items()],
        ("topic", "partition"),
    ),
    Metric(
        "tallystream_lag_records",
        Kind.GAUGE,
        "Records between the position and the end of the log, as the broker last told it.",
        lambda m: [
            (_key(tp), lag) for tp, reach in m.work.reaches.copy().items() if (lag := reach.lag_records) is not None
        ],
        ("topic", "partition"),
    ),
    Metric(
        "tallystream_lag_seconds",
        Kind.GAUGE,
        "Age of the last applied event while others wait, at most the time since none did; 0 when none waits.",
        lambda m: [
            (_key(tp), lag)
            for tp, reach in m.work.reaches.copy().items()
            if (lag := reach.lag_s(m.now, m.wall_ms)) is not None
        ],
        ("topic", "partition"),
    ),
    Metric(
        "tallystream_held_back_records",
        Kind.GAUGE,
        "Records behind the last stable offset: a transaction of a producer is open before them.",
        lambda m: [
            (_key(tp), reach.end.held_back) for tp, reach in m.work.reaches.copy().items() if reach.end is not None
        ],
        ("topic", "partition"),
    ),
    Metric(
        "tallystream_partition_stopped",
        Kind.GAUGE,
        "Whether a partition given to this worker is not read: because of its log, or of too many refusals.",
        lambda m: [(_key(tp), stopped) for tp, stopped in _stopped(m.work).items()],
        ("topic", "partition"),
    ),
)

COMPACTOR: Final[tuple[Metric[Tally], ...]] = (
    *_COMMON,
    Metric(
        "tallystream_compactor_slices_total",
        Kind.COUNTER,
        "Slices of pending deltas that were folded.",
        lambda m: _one(m.work.slices),
    ),
    Metric(
        "tallystream_compactor_deltas_total",
        Kind.COUNTER,
        "Pending deltas that were folded.",
        lambda m: _one(m.work.deltas),
    ),
    Metric(
        "tallystream_compactor_retries_total",
        Kind.COUNTER,
        "Rounds of folding that failed for a passing reason.",
        lambda m: _one(m.work.retries),
    ),
    Metric(
        "tallystream_compactor_problems_total",
        Kind.COUNTER,
        "Times that a cell's deltas were left because they cannot be added up.",
        lambda m: _one(m.work.problems),
    ),
    Metric(
        "tallystream_compactor_chores_total",
        Kind.COUNTER,
        "What its chores did: partitions made, batches added up, dead letters removed or relayed, registers switched.",
        lambda m: [((chore,), done) for chore, done in sorted(m.work.chores.copy().items())],
        ("chore",),
    ),
    Metric(
        "tallystream_compactor_phase_seconds_total",
        Kind.COUNTER,
        "Time of the compactor's loop by phase.",
        lambda m: [((phase,), spent) for phase, spent in sorted(m.work.seconds.copy().items())],
        ("phase",),
    ),
    Metric(
        "tallystream_pending_deltas",
        Kind.GAUGE,
        "Deltas that wait to be folded, in all registers that have some; every compactor tells the same.",
        lambda m: [((each.register,), each.deltas) for each in _pending(m)],
        ("register",),
    ),
    Metric(
        "tallystream_pending_delta_age_seconds",
        Kind.GAUGE,
        "Age of the oldest of them.",
        lambda m: [((each.register,), each.age_s or 0.0) for each in _pending(m)],
        ("register",),
    ),
    Metric(
        "tallystream_dead_letters_waiting",
        Kind.GAUGE,
        "Dead letters that nobody has retried or dropped, by reason; every compactor tells the same.",
        lambda m: (
            []
            if m.overview is None
            else [((reason.value,), m.overview.waiting.get(reason.value, 0)) for reason in Reason]
        ),
        ("reason",),
    ),
    Metric(
        "tallystream_oldest_snapshot_transactions",
        Kind.GAUGE,
        "Transactions since the oldest snapshot that VACUUM keeps rows for; every compactor tells the same.",
        lambda m: [] if m.overview is None else _one(m.overview.oldest_snapshot),
    ),
    Metric(
        "tallystream_dead_rows",
        Kind.GAUGE,
        "Rows of tallystream's tables that VACUUM has not removed, as PostgreSQL estimates them.",
        lambda m: [] if m.overview is None else _one(m.overview.dead_rows),
    ),
)


class Scrape(Collector, Generic[T]):
    """Reads the table's rows each time it is asked."""

    def __init__(self, table: tuple[Metric[T], ...], look: Callable[[], Moment[T]]) -> None:
        self._table = table
        self._look = look

    def collect(self) -> Iterator[Family]:
        moment = self._look()
        for metric in self._table:
            yield _family(metric, moment)

    def describe(self) -> Iterator[Family]:
        """Nothing: registering must not read."""
        return iter(())


def exposition(table: tuple[Metric[T], ...], look: Callable[[], Moment[T]]) -> Callable[[str], tuple[str, bytes]]:
    """Return what answers a scrape: given the header Accept, the content's type and the content."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Scrape(table, look))
    ProcessCollector(registry=registry)

    def answer(accept: str) -> tuple[str, bytes]:
        encode, content_type = choose_encoder(accept)
        return content_type, encode(registry)

    return answer


def _family(metric: Metric[T], moment: Moment[T]) -> Family:
    found = metric.read(moment)
    if isinstance(found, Histogram):
        return HistogramMetricFamily(metric.name, metric.help, buckets=_buckets(found), sum_value=found.total)
    family = (CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily)(
        metric.name, metric.help, labels=metric.labels
    )
    for labels, value in found:
        family.add_metric(labels, value)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    counts, reached = list(histogram.counts), 0
    buckets = []
    for bound, count in zip(histogram.bounds, counts, strict=True):
        reached += count
        buckets.append(("+Inf" if bound == float("inf") else str(bound), float(reached)))
    return buckets


def _one(value: float) -> list[Sample]:
    return [((), float(value))]


def _key(topic_partition: TopicPartition) -> tuple[str, str]:
    return topic_partition.topic, str(topic_partition.partition)


def _pending(moment: Moment[Tally]) -> tuple[PendingDeltas, ...]:
    return () if moment.overview is None else moment.overview.pending


def _stopped(work: Progress) -> dict[TopicPartition, float]:
    return {**dict.fromkeys(work.reaches.copy(), 0.0), **dict.fromkeys(work.stopped.copy(), 1.0)}


def _thread(phase: str) -> str:
    return "reading" if phase in READING else "applying"
