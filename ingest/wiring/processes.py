"""Builds the worker and the compactor from the settings."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ingest.compactor import Chore, Compactor, CompactorLimits
from ingest.domain.applying import Store
from ingest.domain.batches import BatchLimits
from ingest.domain.decoding import Decoding
from ingest.kafka.consumer import KafkaSource
from ingest.kafka.dead_letters import DeadLetterProducer
from ingest.kafka.options import consumer_config, producer_config
from ingest.postgres.apply import BatchStore
from ingest.postgres.compacting import DeltaStore
from ingest.postgres.contention import ContentionWatch
from ingest.postgres.housekeeping import Housekeeper
from ingest.settings import Settings
from ingest.wiring.parts import SteadyClock, Threads, bounds_reader, database, framed_reader, worker_name
from ingest.worker import Worker, WorkerLimits

# The server's own limits come first, and say more.
_ANSWER_SLACK_MS = 5_000


def build_worker(settings: Settings, around: Callable[[Store], Store] = lambda store: store) -> Worker:
    """Return a worker that is ready to run; fails when a setting is not as it must be."""
    access = replace(database(settings), answer_timeout_ms=settings.statement_timeout_ms + _ANSWER_SLACK_MS)
    stores = [
        around(BatchStore(access, settings.group, worker_name(), settings.max_dead_letters_in_a_row))
        for _ in range(settings.lanes)
    ]
    decoding = Decoding(settings.limits(), framed_reader(settings))
    return Worker(build_source(settings), stores, decoding, SteadyClock(), worker_limits(settings), Threads())


def build_compactor(settings: Settings) -> Compactor:
    """Return a compactor that is ready to run; fails when a setting is not as it must be."""
    access = database(settings)
    bounded = replace(
        access,
        statement_timeout_ms=min(settings.compact_timeout_ms, access.statement_timeout_ms),
        lock_timeout_ms=min(settings.compact_timeout_ms, access.lock_timeout_ms),
    )
    limits = CompactorLimits(
        interval_ms=settings.compact_interval_ms,
        min_age_ms=settings.compact_min_age_ms,
        slice_deltas=settings.compact_slice_deltas,
        alarm_ms=settings.compact_alarm_ms,
        retry_initial_ms=settings.retry_initial_ms,
        retry_max_ms=settings.retry_max_ms,
    )
    watch = ContentionWatch(bounded, settings.auto_high_write_waits)
    every = [Chore("switched", settings.auto_high_write_sample_ms, watch.step), *chores(settings, Housekeeper(access))]
    return Compactor(DeltaStore(bounded), every, SteadyClock(), limits)


def chores(settings: Settings, housekeeper: Housekeeper) -> list[Chore]:
    """Return what the compactor does besides folding; a retention of 0 days keeps everything."""
    every_ms = settings.housekeeping_interval_ms
    ahead, batches, letters = (
        settings.partitions_ahead_days,
        settings.batch_retention_days,
        settings.dead_letter_retention_days,
    )
    topic = settings.dead_letter_topic
    found = [Chore("partitions", every_ms, lambda: housekeeper.create_partitions(ahead))]
    if batches:
        found.append(Chore("batches", every_ms, lambda: housekeeper.roll_up_batches(batches)))
    if letters:
        forget = partial(housekeeper.forget_dead_letters, letters, relayed_only=bool(topic))
        found.append(Chore("dead_letters", every_ms, forget))
    if topic:
        settings.require("kafka_bootstrap_servers")
        config = producer_config(settings.kafka_bootstrap_servers, settings.kafka_options)
        # The page stays locked in a transaction while it is on its way.
        config["delivery.timeout.ms"] = max(1000, min(60_000, settings.statement_timeout_ms // 2))
        producer = DeadLetterProducer(config, topic)
        found.append(Chore("relayed", settings.relay_interval_ms, lambda: housekeeper.relay(producer.deliver)))
    return found


def build_source(settings: Settings) -> KafkaSource:
    """Return the consumer; it joins the group when the worker starts."""
    config = consumer_config(
        settings.kafka_bootstrap_servers,
        settings.group,
        settings.group_protocol,
        settings.session_timeout_ms,
        settings.max_poll_interval_ms,
        settings.kafka_options,
    )
    return KafkaSource(config, settings.topics, bounds_reader(settings))


def worker_limits(settings: Settings) -> WorkerLimits:
    """Return how much the worker takes at a time, and how long it waits."""
    return WorkerLimits(
        batch=BatchLimits(
            max_movements=settings.batch_max_movements,
            max_events=settings.batch_max_events,
            max_bytes=settings.batch_max_bytes,
            max_age_ms=settings.flush_after_ms,
            growth=settings.batch_growth,
        ),
        poll_max_messages=settings.poll_max_messages,
        retry_initial_ms=settings.retry_initial_ms,
        retry_max_ms=settings.retry_max_ms,
        revoke_budget_ms=settings.revoke_budget_ms,
        stop_budget_ms=settings.stop_budget_ms,
        check_every_ms=settings.position_check_ms,
    )
