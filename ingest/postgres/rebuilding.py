"""What a rebuild from the topic needs of PostgreSQL: its shadow, where it and the live register stand, the exchange.

While the registry is held, by a transaction on a connection of its own, no batch of any register runs; the shadow's own
batches go on, over their connection, and so commit before the exchange does.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from functools import partial
from typing import Any, Final, cast

from psycopg import IsolationLevel
from psycopg.types.json import Jsonb, set_json_loads

from ingest.domain.applying import Applied, Claims, Registry
from ingest.domain.batches import Batch
from ingest.domain.mapping import RegisterMapping
from ingest.domain.positions import LogBounds, TopicPartition
from ingest.domain.rebuilding import Carried, CellDifference, Comparison, GivenUp, Shadow, Target, Targets
from ingest.domain.registers import Register
from ingest.errors import DataError, RegisterError, TransientError
from ingest.postgres import care
from ingest.postgres.connections import Connection, Database, translated_errors
from ingest.postgres.registers import as_columns, as_register, read_registry
from ingest.postgres.shadowing import ShadowStore

# Readers queue behind a lock that waits for another reader; and nobody may be told of a deadlock, which is looked for
# after a second, before this gives way.
EXCHANGE_LOCK_MS: Final = 500


@dataclass(slots=True)
class RebuildStore:
    """The rebuild of one register for one consumer group; one step at a time."""

    database: Database
    register: str
    group: str
    worker: str
    declaration: Register | None = None
    mapping: RegisterMapping | None = None
    hold_ms: int = 5_000
    _batches: ShadowStore | None = None
    _held: Connection | None = None
    _watch: Connection | None = None
    _shadow: Shadow | None = None

    @property
    def is_holding(self) -> bool:
        """Whether the stream waits for this rebuild now."""
        return self._held is not None

    def begin(self) -> Shadow:
        """Make the shadow, or find the one of a rebuild that was interrupted."""
        resumed = self._find() is not None
        declaration = None if self.declaration is None else Jsonb(_declared(self.declaration))
        mapping = None if self.mapping is None else Jsonb(self.mapping.as_json())
        self._single(
            "begin_rebuild",
            register=self.register,
            consumer_group=self.group,
            declaration=declaration,
            mapping=mapping,
        )
        found = self._find()
        with self.database.connect() as connection:
            row = connection.execute(self.database.compose("read_shadow"), {"register": self.register}).fetchone()
        if found is None or row is None:
            raise RegisterError(f"register {self.register}: its rebuild was given up by somebody else")
        self._shadow = Shadow(self.register, as_register(row), cast("Any", found[3]), resumed, self.mapping)
        self._batches = ShadowStore(
            self.database, f"{self.group}:rebuild:{self.register}", self.worker, register=self.register
        )
        self._batches.shadow = self._shadow.declaration
        return self._shadow

    def is_under_way(self) -> bool:
        """Say whether the shadow is still one."""
        return self._find() is not None

    def discard(self) -> bool:
        """Drop the shadow; says whether there was one."""
        return bool(self._single("discard_rebuild", register=self.register))

    def registry(self) -> Registry:
        """Read the declarations; the register's is that of its shadow."""
        registry = read_registry(self.database)
        shadow = self._begun().declaration
        return Registry(registry.version, {**registry.registers, self.register: replace(shadow, name=self.register)})

    def targets(self) -> Targets:
        """Say how far the live register has been read."""
        with self.database.connect() as connection:
            rows = connection.execute(
                self.database.compose("read_live_positions"), {"consumer_group": self.group}
            ).fetchall()
        found = cast("list[tuple[str, int, int, int, str | None]]", rows)
        return {
            TopicPartition(topic, partition): Target(position_id, next_offset, topic_id)
            for topic, partition, position_id, next_offset, topic_id in found
        }

    def claim(self, bounds: Sequence[LogBounds]) -> Claims:
        """Take the rebuild's own positions; the live ones have to be of the same topics."""
        targets = self.targets()
        batches = self._applying()
        batches.live_ids = {(tp.topic, tp.partition): target.position_id for tp, target in targets.items()}
        return batches.claim(bounds)

    def given_up(self) -> GivenUp:
        """Name the events that are dropped dead letters, or that a position was moved over."""
        with self.database.connect() as connection:
            rows = connection.execute(self.database.compose("read_given_up"), {"consumer_group": self.group}).fetchall()
        found: dict[tuple[str, int], list[range]] = {}
        for topic, partition, first, end in cast("list[tuple[str, int, int, int]]", rows):
            found.setdefault((topic, partition), []).append(range(first, end))
        return found

    def has_checked_gaps(self) -> bool:
        """Say whether it is settled where this rebuild begins."""
        found = self._find()
        return found is not None and found[4] is not None

    def movements_before(self, gaps: Mapping[TopicPartition, int]) -> int:
        """Count the live movements that come from before these offsets."""
        targets = self.targets()
        parameters = {
            "position_ids": [targets[topic_partition].position_id for topic_partition in gaps],
            "offsets": list(gaps.values()),
        }
        movements = self.database.table(f"{self.register}_movements")
        with self._patient() as connection:
            row = connection.execute(
                self.database.compose("count_movements_before", movements=movements), parameters
            ).fetchone()
        return cast("int", row[0]) if row else 0

    def accept_gaps(self, gaps: Mapping[TopicPartition, int]) -> None:
        """Remember that events before these offsets are given up."""
        kept = Jsonb({_place(topic_partition): low for topic_partition, low in gaps.items()})
        with self.database.connect() as connection:
            connection.execute(self.database.compose("accept_gaps"), {"register": self.register, "gaps": kept})

    def apply(self, batch: Batch, registry: Registry) -> Applied:
        """Apply a batch to the shadow."""
        batches = self._applying()
        # Under the hold, the lock that batches wait for is this rebuild's own.
        batches.holds_registry = self._held is None
        return batches.apply(batch, registry)

    def carry(self, *, drop: bool) -> Carried:
        """Make the shadow's movements by SQL those of the live register, or none; while the stream waits, in time."""
        try:
            with self._patient() as connection:
                if self._held:
                    limits = {**self.database.limits, **_both(self.hold_ms)}
                    connection.execute(self.database.compose("limit_waiting"), limits)
                row = connection.execute(
                    self.database.compose("carry_movements"), {"register": self.register, "drop": drop}
                ).fetchone()
        except TransientError as error:
            if self._held:
                message = f"looking for movements by SQL took longer than rebuild_hold_ms, {self.hold_ms}: {error}"
                raise TransientError(message) from error
            raise
        return Carried(*cast("tuple[int, int, int]", row))

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep batches and writers by hand waiting meanwhile; readers go on."""
        limits = {**self.database.limits, "lock_timeout_ms": self.hold_ms}
        with self.database.connect() as connection:
            try:
                with translated_errors(), connection.transaction():
                    connection.execute(self.database.compose("limit_waiting"), limits)
                    connection.execute(self.database.compose("hold_registry_alone"))
                    movements = self.database.table(f"{self.register}_movements")
                    connection.execute(self.database.compose("hold_writers", movements=movements))
                    self._held = connection
                    yield
            except DataError as error:
                raise RegisterError(error.detail) from error
            finally:
                self._held = None

    def compare(self, most: int) -> Callable[[], Comparison]:
        """See both registers as they are now; what is returned compares them, whatever happens meanwhile."""
        stack = ExitStack()
        try:
            connection = stack.enter_context(self.database.connect())
            stack.enter_context(translated_errors())
            # Its first statement decides what all of them see.
            connection.isolation_level = IsolationLevel.REPEATABLE_READ
            stack.enter_context(connection.transaction())
            connection.execute(self.database.compose("limit_waiting"), self.database.patient_limits)
        except BaseException:
            stack.close()
            raise
        return partial(self._compare, stack, connection, most)

    def snapshots(self) -> frozenset[tuple[int, str]]:
        """Name the sessions that see the database as it was at some time before now."""
        if self._watch is None or self._watch.closed:
            with translated_errors():
                self._watch = self.database.open()
        with translated_errors():
            rows = self._watch.execute(self.database.compose("find_snapshots")).fetchall()
        return frozenset(cast("list[tuple[int, str]]", rows))

    def exchange(self) -> None:
        """Put the shadow in the register's place, in the transaction that holds the stream."""
        if self._held is None:
            raise RuntimeError("the stream is not held")
        self._held.execute(
            self.database.compose("limit_lock_waiting"), {"lock_timeout_ms": min(EXCHANGE_LOCK_MS, self.hold_ms)}
        )
        self._held.execute(self.database.compose("exchange_tables"), {"register": self.register})

    def refusals(self) -> dict[str, int]:
        """Return how many events the rebuild has refused, by reason."""
        with self.database.connect() as connection:
            rows = connection.execute(
                self.database.compose("count_rebuild_refusals"), {"register": self.register}
            ).fetchall()
        return dict(cast("list[tuple[str, int]]", rows))

    def new_refusals(self) -> int:
        """Return how many of those the live register has applied."""
        return cast("int", self._single("count_new_refusals", register=self.register))

    def close(self) -> None:
        """Give back connections."""
        if self._watch is not None:
            self._watch.close()
        if self._batches is not None:
            self._batches.close()

    def _compare(self, stack: ExitStack, connection: Connection, most: int) -> Comparison:
        found: Counter[str] = Counter()
        differences: list[CellDifference] = []
        with stack, connection.cursor() as cursor:
            set_json_loads(partial(json.loads, parse_float=Decimal), cursor)
            # Row by row: under another declaration all cells may differ.
            for row in cursor.stream(self.database.compose("compare_rebuild"), {"register": self.register}):
                difference = CellDifference(*cast("tuple[str, None, dict[str, object], None, None]", row))
                found[difference.grain] += 1
                if len(differences) < most:
                    differences.append(difference)
            rows = cursor.execute(self.database.compose("verify_register"), {"register": self._begun().name}).fetchall()
        unsound = sum(row[5] != care.OK for row in rows)
        return Comparison(found, tuple(differences), unsound)

    def _find(self) -> tuple[object, ...] | None:
        with self.database.connect() as connection:
            return connection.execute(self.database.compose("find_rebuild"), {"register": self.register}).fetchone()

    def _begun(self) -> Shadow:
        if self._shadow is None:
            raise RuntimeError("the rebuild has not begun")
        return self._shadow

    def _applying(self) -> ShadowStore:
        if self._batches is None:
            raise RuntimeError("the rebuild has not begun")
        return self._batches

    def _single(self, statement: str, **parameters: object) -> object:
        with self._patient() as connection:
            row = connection.execute(self.database.compose(statement), parameters).fetchone()
        return row[0] if row else None

    @contextmanager
    def _patient(self) -> Iterator[Connection]:
        try:
            with self.database.connect() as connection, connection.transaction():
                connection.execute(self.database.compose("limit_waiting"), self.database.patient_limits)
                yield connection
        except DataError as error:
            raise RegisterError(error.detail) from error


def _both(timeout_ms: int) -> dict[str, int]:
    return {"statement_timeout_ms": timeout_ms, "lock_timeout_ms": timeout_ms}


def _declared(register: Register) -> dict[str, object]:
    declared: dict[str, object] = {field.name: getattr(register, field.name) for field in fields(register)}
    del declared["name"]
    return {
        **declared,
        "kind": register.kind.value,
        "dimensions": as_columns(register.dimensions),
        "resources": as_columns(register.resources),
        "period_min": register.period_min.isoformat(),
        "period_max": register.period_max.isoformat(),
    }


def _place(topic_partition: TopicPartition) -> str:
    return f"{topic_partition.topic}[{topic_partition.partition}]"
