"""Builds the program's parts from the settings: the one place where the borders meet."""

import getpass
import os
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import asdict, replace
from datetime import timedelta
from functools import partial
from typing import Any

from ingest.compactor import Chore, Compactor, CompactorLimits
from ingest.domain import moves
from ingest.domain.applying import Applied, Store
from ingest.domain.batches import BatchLimits
from ingest.domain.decoding import Decoder, Decoding
from ingest.domain.framing import ReadFramed, refuse_framed
from ingest.domain.moves import Move, Wish
from ingest.domain.positions import LogBounds, TopicPartition
from ingest.domain.registers import Register
from ingest.domain.status import Status, describe_position
from ingest.errors import RegisterError
from ingest.kafka.bounds import BoundsReader
from ingest.kafka.consumer import KafkaSource
from ingest.kafka.dead_letters import DeadLetterProducer
from ingest.kafka.options import admin_config, consumer_config, producer_config
from ingest.kafka.schema_registry import schema_reader
from ingest.postgres import care, dead_letters, explaining, migrations, moving, registers
from ingest.postgres.apply import BatchStore
from ingest.postgres.compacting import DeltaStore, read_pending
from ingest.postgres.connections import Database, check_dsn
from ingest.postgres.contention import ContentionWatch
from ingest.postgres.housekeeping import Housekeeper
from ingest.postgres.status import read_positions, read_streaks
from ingest.settings import Settings
from ingest.worker import Worker, WorkerLimits

# The server's own limits come first, and say more.
_ANSWER_SLACK_MS = 5_000


def database(settings: Settings) -> Database:
    """Return the access to PostgreSQL; nothing is opened yet."""
    dsn = settings.postgres_dsn.get_secret_value()
    check_dsn(dsn)
    return Database(
        dsn,
        settings.schema_name,
        connect_timeout_ms=settings.connect_timeout_ms,
        statement_timeout_ms=settings.statement_timeout_ms,
        lock_timeout_ms=settings.lock_timeout_ms,
        maintenance_timeout_ms=settings.maintenance_timeout_ms,
    )


def migrate(settings: Settings) -> list[str]:
    """Install or update the schema; returns what was applied."""
    return migrations.migrate(database(settings))


def apply_registers(settings: Settings, declared: Iterable[Register]) -> list[tuple[str, str]]:
    """Create the declared registers that are missing; returns what was done to each."""
    return registers.apply_registers(database(settings), declared)


def verify_register(settings: Settings, register: str) -> Sequence[care.Difference]:
    """Return the differences between a register's movements and what is derived from them."""
    return registers.verify_register(database(settings), register)


def choose_registers(settings: Settings, names: Sequence[str]) -> Sequence[str]:
    """Return the named registers, or all; fails before anything is done when there is none of a name."""
    known = registers.list_names(database(settings))
    for name in names:
        if name not in known:
            raise RegisterError(f"register {name} does not exist; there are: {', '.join(known) or 'none yet'}")
    return list(dict.fromkeys(names)) or known


def verify(settings: Settings, register: str, most: int) -> care.Verification:
    """Compare a register with its movements; returns the first differences, and counts them all."""
    return care.verify(database(settings), register, most)


def rebuild(settings: Settings, register: str, dim_hash: int | None) -> care.Rebuilt:
    """Make a register, or the balance of one of its cells, what its movements say."""
    return care.rebuild(database(settings), register, dim_hash)


def read_stats(settings: Settings, register: str) -> dict[str, Any]:
    """Return the sizes of a register."""
    return care.read_stats(database(settings), register)


def list_partitions(settings: Settings, register: str) -> Sequence[care.Partition]:
    """Return a register's partitions."""
    return care.list_partitions(database(settings), register)


def create_partitions(settings: Settings, register: str, ahead: str) -> int:
    """Make a register's partitions ahead; returns how many were missing."""
    return care.create_partitions(database(settings), register, ahead)


def detach_partitions(settings: Settings, register: str, older_than: str) -> Iterator[care.Detached]:
    """Detach a register's old partitions one by one."""
    return care.detach_partitions(database(settings), register, older_than)


def read_registers(settings: Settings) -> Mapping[str, Register]:
    """Return the declarations in the database."""
    return registers.read_registry(database(settings)).registers


def list_dead_letters(
    settings: Settings, state: str | None, reason: str | None, register: str | None, most: int
) -> list[dict[str, object]]:
    """Return the newest dead letters, newest first."""
    found = dead_letters.list_dead_letters(database(settings), state=state, reason=reason, register=register, most=most)
    return [asdict(letter) for letter in found]


def show_dead_letter(settings: Settings, dead_letter_id: int) -> dict[str, object]:
    """Return everything that is known of one dead letter."""
    return dead_letters.show_dead_letter(database(settings), dead_letter_id)


def retry_dead_letters(settings: Settings, ids: tuple[int, ...] | None, reason: str | None) -> dead_letters.Retried:
    """Apply dead letters under the present declarations; returns what became of them."""
    access = database(settings)
    registry = registers.read_registry(access)
    decoder = Decoder(registry.registers, settings.limits(), framed_reader(settings))
    selection = dead_letters.Selection(ids, reason)
    return dead_letters.retry_dead_letters(access, registry, decoder.decode, selection)


def drop_dead_letters(settings: Settings, ids: Sequence[int], note: str) -> int:
    """Give up dead letters; returns how many."""
    return dead_letters.drop_dead_letters(database(settings), ids, note)


def read_status(settings: Settings) -> Status:
    """Return where the group stands; what the broker does not tell is left open."""
    access = database(settings)
    positions = read_positions(access, settings.group)
    bounds: dict[TopicPartition, LogBounds] = {}
    broker_problem = None
    if not settings.kafka_bootstrap_servers:
        broker_problem = "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS is not set"
    elif positions:
        wanted = [TopicPartition(position.topic, position.partition) for position in positions]
        bounds = {bound.topic_partition: bound for bound in bounds_reader(settings).read(wanted)}
        if len(bounds) < len(wanted):
            broker_problem = f"{settings.kafka_bootstrap_servers} did not tell about every partition"
    streaks = read_streaks(access, positions, settings.max_dead_letters_in_a_row)
    partitions = tuple(
        describe_position(p, bounds.get(where), streaks.get(where))
        for p in positions
        for where in (TopicPartition(p.topic, p.partition),)
    )
    letters, pending = dead_letters.count_dead_letters(access), read_pending(access)
    return Status(settings.group, partitions, tuple(letters), tuple(pending), broker_problem)


def wait_for_event(
    settings: Settings, topic: str, partition: int, offset: int, timeout: timedelta, group: str | None
) -> bool:
    """Wait until an event has been applied; false when it has not been in time."""
    return explaining.wait_for_event(database(settings), topic, partition, offset, timeout, group)


def explain(settings: Settings, recorder: str, register: str | None, most: int) -> list[dict[str, Any]]:
    """Return what is known of a document, in each register that knows anything."""
    access = database(settings)
    names = choose_registers(settings, [register] if register else [])
    return explaining.explain(access, names, recorder, most)


def plan_move(settings: Settings, wish: Wish) -> Move:
    """Say what moving a position would do; nothing is moved yet."""
    where = wish.topic_partition
    stored = {TopicPartition(p.topic, p.partition): p for p in read_positions(database(settings), settings.group)}
    bounds = {bound.topic_partition: bound for bound in bounds_reader(settings).read([where])}
    return moves.plan_move(wish, stored.get(where), bounds.get(where))


def move_position(settings: Settings, move: Move, reason: str) -> moving.Moved:
    """Move a position as planned, and record it."""
    return moving.move_position(database(settings), settings.group, move, reason, operator_name())


def resume_position(settings: Settings, topic_partition: TopicPartition, reason: str) -> int:
    """Let a partition go on that was stopped for its dead letters; returns how many there were in a row."""
    return moving.resume_position(database(settings), settings.group, topic_partition, reason, operator_name())


def list_moves(settings: Settings, most: int) -> list[moving.RecordedMove]:
    """Return what people did to the positions of the group."""
    return moving.list_moves(database(settings), settings.group, most)


def build_worker(settings: Settings, around: Callable[[Store], Store] = lambda store: store) -> Worker:
    """Return a worker that is ready to run; fails when the schema or a setting is not as it must be."""
    access = replace(database(settings), answer_timeout_ms=settings.statement_timeout_ms + _ANSWER_SLACK_MS)
    migrations.check(access)
    store = BatchStore(access, settings.group, worker_name(), settings.max_dead_letters_in_a_row)
    decoding = Decoding(settings.limits(), framed_reader(settings))
    return Worker(build_source(settings), around(store), decoding, SteadyClock(), worker_limits(settings), Threads())


def build_compactor(settings: Settings) -> Compactor:
    """Return a compactor that is ready to run; fails when the schema or a setting is not as it must be."""
    access = database(settings)
    migrations.check(access)
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


def framed_reader(settings: Settings) -> ReadFramed:
    """Return what reads values that name a schema; without a registry they are refused."""
    if not settings.schema_registry_url:
        return refuse_framed
    return schema_reader(
        settings.schema_registry_url,
        settings.schema_registry_user,
        settings.schema_registry_password.get_secret_value(),
        settings.schema_registry_ca_file,
        timeout_s=settings.schema_registry_timeout_ms / 1000,
    )


def bounds_reader(settings: Settings) -> BoundsReader:
    """Return the client that asks the broker where logs begin and end."""
    config = admin_config(settings.kafka_bootstrap_servers, settings.kafka_options)
    return BoundsReader(config, timeout_s=settings.connect_timeout_ms / 1000)


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


def worker_name() -> str:
    """Return a name that tells an operator which process it is: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def operator_name() -> str:
    """Return who is at the keyboard: the machine's user and its name. A database role is often shared."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that its machine does not know
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class SteadyClock:
    """The machine's steady clock."""

    def now(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float, until: threading.Event) -> None:
        """Wait, at most until the event is set."""
        until.wait(seconds)


class Threads:
    """A thread for each batch: the driver waits for PostgreSQL outside the interpreter's lock."""

    def start(self, work: Callable[[], None]) -> None:
        """Begin the work, and return."""
        threading.Thread(target=work, name="commit", daemon=True).start()

    def wait(self, result: Future[Applied], timeout_s: float) -> None:
        """Return when the result is there, or the time is over."""
        wait([result], timeout_s)
