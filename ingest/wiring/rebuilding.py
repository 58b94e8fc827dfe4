"""Builds the parts of a rebuild from the settings: where Kafka and PostgreSQL meet for it, beside `wiring`."""

import time
from collections.abc import Callable

from ingest.domain.decoding import Decoding
from ingest.domain.mapping import RegisterMapping
from ingest.domain.positions import TopicPartition
from ingest.domain.registers import Register
from ingest.domain.tracing import Traced, may_be_of, trace
from ingest.kafka.broker_errors import Troubles
from ingest.kafka.options import consumer_config
from ingest.kafka.replaying import TopicReader
from ingest.postgres import migrations
from ingest.postgres.rebuilding import RebuildStore
from ingest.postgres.registers import read_registry
from ingest.postgres.status import read_positions
from ingest.rebuilder import Rebuilder, RebuilderLimits
from ingest.settings import Settings
from ingest.wiring import commands, parts

_POLL_S = 0.1
# Nobody waits for a single event here: larger portions cost less.
_BATCHES_AT_ONCE = 2


def build_rebuilder(
    settings: Settings,
    register: str,
    declaration: Register | None,
    mapping: RegisterMapping | None,
    report: Callable[[str, int, int], None],
) -> Rebuilder:
    """Return what rebuilds one register from its topic."""
    access = parts.database(settings)
    migrations.check(access)
    limits = RebuilderLimits(
        max_events=_BATCHES_AT_ONCE * settings.batch_max_events,
        max_bytes=settings.batch_max_bytes,
        hold_ms=settings.rebuild_hold_ms,
        retry_initial_ms=settings.retry_initial_ms,
        retry_max_ms=settings.retry_max_ms,
    )
    store = RebuildStore(
        access,
        register,
        settings.group,
        parts.worker_name(),
        declaration,
        mapping,
        settings.rebuild_hold_ms,
    )
    reader = topic_reader(settings, f"{settings.group}:rebuild:{register}")
    decoding = Decoding(settings.limits(), parts.framed_reader(settings))
    return Rebuilder(reader, store, decoding, parts.SteadyClock(), limits, report)


def trace_recorder(
    settings: Settings, recorder: str, register: str | None, report: Callable[[str, int, int], None]
) -> list[Traced]:
    """Read the group's topics up to its positions, and return the events of a document with what became of them."""
    access = parts.database(settings)
    registry = read_registry(access)
    names = commands.choose_registers(settings, [register] if register else [])
    decode = Decoding(settings.limits(), parts.framed_reader(settings))
    ends = {TopicPartition(p.topic, p.partition): p.next_offset for p in read_positions(access, settings.group)}
    reader = topic_reader(settings, f"{settings.group}:explain")
    items = []
    try:
        starts = {bound.topic_partition: bound.low for bound in reader.bounds(sorted(ends))}
        spans = {tp: (low, ends[tp]) for tp, low in starts.items() if low < ends[tp]}
        reader.open(spans)
        total = sum(end - start for start, end in spans.values())
        done = 0
        while not reader.is_done():
            messages = reader.read(_BATCHES_AT_ONCE * settings.batch_max_events, _POLL_S)
            decoded = (decode(registry, message) for message in messages if may_be_of(message, recorder))
            items += [item for item in decoded if item.recorder == recorder]
            done += len(messages)
            report("reading the topic", done, total)
    finally:
        reader.close()
    items.sort(key=lambda item: (item.message.topic, item.message.partition, item.message.offset))
    return trace(items, names, recorder)


def topic_reader(settings: Settings, group: str) -> TopicReader:
    """Return a consumer that joins no group; brokers know it by this one's name."""
    config = consumer_config(
        settings.kafka_bootstrap_servers,
        group,
        "classic",
        settings.session_timeout_ms,
        settings.max_poll_interval_ms,
        settings.kafka_options,
    )
    return TopicReader(config, parts.bounds_reader(settings), Troubles(time.monotonic))


def discard_rebuild(settings: Settings, register: str) -> bool:
    """Give up a rebuild from the topic; says whether one was under way."""
    return RebuildStore(parts.database(settings), register, settings.group, parts.worker_name()).discard()
