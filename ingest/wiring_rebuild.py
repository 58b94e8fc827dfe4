"""Builds the parts of a rebuild from the settings: where Kafka and PostgreSQL meet for it, beside `wiring`."""

import time
from collections.abc import Callable

from ingest import wiring
from ingest.domain.decoding import Decoding
from ingest.domain.registers import Register
from ingest.kafka.broker_errors import Troubles
from ingest.kafka.options import consumer_config
from ingest.kafka.replaying import TopicReader
from ingest.postgres import migrations
from ingest.postgres.rebuilding import RebuildStore
from ingest.rebuilder import Rebuilder, RebuilderLimits
from ingest.settings import Settings


def build_rebuilder(
    settings: Settings, register: str, declaration: Register | None, report: Callable[[str, int, int], None]
) -> Rebuilder:
    """Return what rebuilds one register from its topic."""
    access = wiring.database(settings)
    migrations.check(access)
    limits = RebuilderLimits(
        max_events=settings.batch_max_events,
        max_bytes=settings.batch_max_bytes,
        hold_ms=settings.rebuild_hold_ms,
        retry_initial_ms=settings.retry_initial_ms,
        retry_max_ms=settings.retry_max_ms,
    )
    store = RebuildStore(access, register, settings.group, wiring.worker_name(), declaration, settings.rebuild_hold_ms)
    config = consumer_config(
        settings.kafka_bootstrap_servers,
        f"{settings.group}:rebuild:{register}",
        "classic",
        settings.session_timeout_ms,
        settings.max_poll_interval_ms,
        settings.kafka_options,
    )
    reader = TopicReader(config, wiring.bounds_reader(settings), Troubles(time.monotonic))
    decoding = Decoding(settings.limits(), wiring.framed_reader(settings))
    return Rebuilder(reader, store, decoding, wiring.SteadyClock(), limits, report)


def discard_rebuild(settings: Settings, register: str) -> bool:
    """Give up a rebuild from the topic; says whether one was under way."""
    return RebuildStore(wiring.database(settings), register, settings.group, wiring.worker_name()).discard()
