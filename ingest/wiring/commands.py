"""What an operator's commands do, each a call: where Kafka and PostgreSQL meet for it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from ingest.domain import moves
from ingest.domain.decoding import Decoder
from ingest.domain.moves import Move, Wish
from ingest.domain.positions import LogBounds, TopicPartition
from ingest.domain.registers import Register
from ingest.domain.status import Status, describe_position
from ingest.errors import RegisterError
from ingest.postgres import care, dead_letters, explaining, migrations, moving, registers
from ingest.postgres.compacting import read_pending
from ingest.postgres.identity import check_role
from ingest.postgres.status import read_positions, read_streaks
from ingest.settings import Settings
from ingest.wiring.parts import bounds_reader, database, framed_reader, operator_name


def migrate(settings: Settings) -> list[str]:
    """Install or update the schema; returns what was applied."""
    return migrations.migrate(database(settings))


def check_database(settings: Settings) -> None:
    """Fail unless the schema is the one that this program was built with, and the role may do no more than it needs."""
    access = database(settings)
    migrations.check(access)
    check_role(access, allow_privileged=settings.allow_privileged_role)


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
