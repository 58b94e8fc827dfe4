"""Everything of the stream but Kafka: records in memory, the real decoder, the real store, a real database.

    pipeline = Pipeline(database, [INVENTORY])
    one, other = pipeline.consumer(), pipeline.consumer()      # the later one has raised the epoch
    pipeline.send(movement("r1", line(1, "5")))
    one.apply()

What a `Consumer` has applied it goes on from, as a worker does; `claim` reads the positions again.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, TypeAlias

import psycopg
import pytest
from psycopg import sql

from ingest.domain.applying import Applied, Claims, Registry
from ingest.domain.batches import Batch, Span
from ingest.domain.decoding import Decoder
from ingest.domain.messages import Message
from ingest.domain.moves import Wish, plan_move
from ingest.domain.positions import Claim, LogBounds, TopicPartition
from ingest.domain.registers import Register
from ingest.postgres import registers
from ingest.postgres.apply import BatchStore
from ingest.postgres.connections import Database as Access
from ingest.postgres.moving import Moved, move_position
from ingest.postgres.status import read_positions
from tests.support.events import INVENTORY
from tests.support.postgres import SCHEMA, SEARCH_PATH, Database

Document: TypeAlias = dict[str, Any]
Row: TypeAlias = tuple[Any, ...]

TOPIC: Final = "events"
GROUP: Final = "tests"
PERIOD: Final = "2026-04-18T10:00:00Z"
# Long enough for a shared machine, short enough that a test which waits for a lock it never gets ends.
LOCK_TIMEOUT_MS: Final = 20_000


def line(product: int, quantity: str = "1", **changes: object) -> Document:
    """A movement of `INVENTORY`."""
    return {"warehouse": 1, "product": product, "lot": "A", "quantity": quantity, "amount": "0", **changes}


def document(kind: str, recorder: str, *lines: Document, **changes: object) -> Document:
    """An event; its id is made of what it says, so the same one twice is a duplicate."""
    body: Document = {"type": kind, "register": "inventory", "recorder": recorder}
    if kind != "unpost":
        body |= {"period": PERIOD, "movements": list(lines)}
    body |= changes
    return {"id": json.dumps(body, sort_keys=True)[:200], **body}


def movement(recorder: str, *lines: Document, **changes: object) -> Document:
    return document("movement", recorder, *lines, **changes)


def repost(recorder: str, *lines: Document, **changes: object) -> Document:
    return document("repost", recorder, *lines, **changes)


def unpost(recorder: str, **changes: object) -> Document:
    return document("unpost", recorder, **changes)


def access_to(database: Database, dsn: str | None = None, lock_timeout_ms: int = LOCK_TIMEOUT_MS) -> Access:
    """The product's access to a test's database."""
    return Access(dsn or database.dsn, SCHEMA, lock_timeout_ms=lock_timeout_ms)


@dataclass(slots=True)
class Consumer:
    """A store and the claims it works under: a worker without its loop."""

    pipeline: "Pipeline"
    store: BatchStore
    claims: dict[TopicPartition, Claim] = field(default_factory=dict)

    def claim(self, partitions: Iterable[int] | None = None) -> Claims:
        """Takes partitions, all unless told otherwise."""
        claims = self.store.claim(self.pipeline.bounds(partitions))
        self.claims |= {claim.topic_partition: claim for claim in claims.taken}
        return claims

    def batch(self, most: int | None = None, partitions: Iterable[int] | None = None) -> Batch:
        """What waits of the claimed partitions, at most so many records of each."""
        pipeline = self.pipeline
        messages: list[Message] = []
        spans = []
        for topic_partition, claim in sorted(self.claims.items()):
            if partitions is not None and topic_partition.partition not in partitions:
                continue
            waiting = [m for m in pipeline.log[topic_partition] if m.offset >= claim.next_offset][:most]
            if waiting:
                messages += waiting
                spans.append(Span(claim, waiting[-1].offset + 1, waiting[-1].timestamp_ms))
        registry = pipeline.registry
        decoder = Decoder(registry.registers)
        return Batch(tuple(map(decoder.decode, messages)), tuple(spans), registry.version)

    def apply(self, batch: Batch | None = None) -> Applied:
        """Applies a batch, or whatever waits, and goes on from there."""
        batch = batch or self.batch()
        applied = self.store.apply(batch, self.pipeline.registry)
        self.advance(batch)
        for stop in applied.stopped:
            del self.claims[stop.topic_partition]
        return applied

    def advance(self, batch: Batch) -> None:
        """Goes on after a batch that is known to be committed."""
        for span in batch.spans:
            claim = span.claim
            self.claims[claim.topic_partition] = Claim(
                claim.topic_partition, claim.position_id, span.next_offset, claim.epoch
            )


class Pipeline:
    """One topic and one database."""

    def __init__(self, database: Database, declared: Sequence[Register] = (INVENTORY,), partitions: int = 1) -> None:
        self.database = database
        self.access = access_to(database)
        self.log: dict[TopicPartition, list[Message]] = {TopicPartition(TOPIC, n): [] for n in range(partitions)}
        self._stores: list[BatchStore] = []
        registers.apply_registers(self.access, declared)
        self.registry: Registry = registers.read_registry(self.access)

    def reload(self) -> None:
        """Reads the declarations again."""
        self.registry = registers.read_registry(self.access)

    def send(self, *values: Document | bytes | None, partition: int = 0, **parts: Any) -> None:  # noqa: ANN401
        """Appends records; `key`, `headers`, `timestamp_ms` and `offset` are as given."""
        log = self.log[TopicPartition(TOPIC, partition)]
        for value in values:
            body = json.dumps(value).encode() if isinstance(value, dict) else value
            offset = log[-1].offset + 1 if log else 0
            known = {"offset": offset, "timestamp_ms": 1_776_000_000_000, "key": None, "headers": (), **parts}
            log.append(Message(topic=TOPIC, partition=partition, value=body, **known))

    def bounds(self, partitions: Iterable[int] | None = None) -> list[LogBounds]:
        """What a broker would say of these partitions."""
        wanted = [tp for tp in self.log if partitions is None or tp.partition in partitions]
        return [LogBounds(tp, "id", 0, self.log[tp][-1].offset + 1 if self.log[tp] else 0) for tp in wanted]

    def store(self, name: str = "worker", group: str = GROUP, most_in_a_row: int = 0, **access: Any) -> BatchStore:  # noqa: ANN401
        """A worker's store; `dsn` and `lock_timeout_ms` may be others than usual."""
        self._stores.append(BatchStore(access_to(self.database, **access), group, name, most_in_a_row))
        return self._stores[-1]

    def consumer(self, name: str = "worker", partitions: Iterable[int] | None = None, **store: Any) -> Consumer:  # noqa: ANN401
        """A worker's store that has claimed partitions, all unless told otherwise."""
        consumer = Consumer(self, self.store(name, **store))
        consumer.claim(partitions)
        return consumer

    def move(self, to: str, bounds: LogBounds | None = None, **wish: bool) -> Moved:
        """Moves the first partition's position, as `tallystream positions set` does."""
        where = TopicPartition(TOPIC, 0)
        stored = {p.partition: p for p in read_positions(self.access, GROUP)}
        move = plan_move(Wish(where, to, **wish), stored.get(0), bounds or self.bounds([0])[0])
        return move_position(self.access, GROUP, move, "a test", "tests")

    def rows(self, statement: str, parameters: Mapping[str, object] | Sequence[object] | None = None) -> list[Row]:
        """What the database's owner sees."""
        with self.database.connect(options=SEARCH_PATH) as connection:
            return connection.execute(statement.encode(), parameters).fetchall()

    def value(self, statement: str, parameters: Sequence[object] | None = None) -> Any:  # noqa: ANN401 - any column
        ((value,),) = self.rows(statement, parameters)
        return value

    def balances(self, register: str = "inventory", resource: str = "quantity") -> dict[Row, Decimal]:
        """The current balances that are not zero, by cell."""
        dimensions = [column.name for column in self.registry.registers[register].dimensions]
        statement = sql.SQL("SELECT {}, {} FROM {}").format(
            sql.SQL(", ").join(map(sql.Identifier, dimensions)),
            sql.Identifier(resource),
            sql.Identifier(f"{register}_balances"),
        )
        return {row[:-1]: row[-1] for row in self.rows(statement.as_string())}

    def count(self, table: str) -> int:
        counted: int = self.value(f"SELECT count(*) FROM {table}")  # noqa: S608 - a test's own table
        return counted

    def check(self) -> None:
        """Movements, totals, balances, positions and counts agree with one another."""
        for register in self.registry.registers:
            assert not registers.verify_register(self.access, register)
            assert self.count(f"{register}_pending_folds") == 0
            check_recorders(self, register)
        check_batches(self)

    def close(self) -> None:
        for store in self._stores:
            store.close()


def check_recorders(pipeline: Pipeline, register: str) -> None:
    """Every movement lies within the periods that its recorder is known to have."""
    lost = pipeline.rows(
        f"SELECT m.recorder, m.period FROM {register}_movements AS m"  # noqa: S608 - a declared name
        f" LEFT JOIN {register}_recorders AS r ON r.recorder = m.recorder"
        " AND m.period BETWEEN r.first_period AND r.last_period"
        " WHERE r.recorder IS NULL"
    )
    assert lost == []


def check_batches(pipeline: Pipeline) -> None:
    """The history of each partition, batches and moves, leads to its position; nothing is unaccounted for.

    Every offset below a position, from where reading began, is in a batch, or skipped with a reason, and never both.
    """
    history = pipeline.rows(HISTORY)
    reached: dict[int, int] = {}
    for position_id, first, following, _, moved in history:
        assert first == reached.get(position_id, first) or moved
        reached[position_id] = following
    assert reached == {position_id: position for position_id, _, _, position, _ in history}
    assert pipeline.rows(UNACCOUNTED) == []


HISTORY = """
    SELECT h.position_id, h.first_offset, h.following, p.next_offset, h.moved FROM (
        SELECT b.position_id, b.first_offset, b.next_offset AS following, b.committed_at AS at, false AS moved
        FROM _batches AS b
        UNION ALL
        SELECT m.position_id, coalesce(m.from_offset, m.to_offset), m.to_offset, m.done_at, true
        FROM _position_moves AS m
    ) AS h JOIN _positions AS p ON p.id = h.position_id WHERE p.retired_at IS NULL ORDER BY h.position_id, h.at
"""
UNACCOUNTED = """
    WITH read AS (
        SELECT position_id, range_agg(int8range(first_offset, next_offset)) AS spans FROM _batches GROUP BY 1
    ), skipped AS (
        SELECT position_id, range_agg(int8range(first_offset, next_offset)) AS spans FROM _skipped_offsets GROUP BY 1
    ), accounts AS (
        SELECT p.id, p.next_offset, coalesce(r.spans, '{}') AS read, coalesce(s.spans, '{}') AS skipped
        FROM _positions AS p LEFT JOIN read AS r ON r.position_id = p.id LEFT JOIN skipped AS s ON s.position_id = p.id
    )
    SELECT id, next_offset, read, skipped FROM accounts
    CROSS JOIN LATERAL coalesce(least(lower(read), lower(skipped)), next_offset) AS begun
    WHERE read && skipped OR int8multirange(int8range(begun, next_offset)) - read - skipped <> '{}'
"""


def backends(connection: psycopg.Connection) -> Iterator[int]:
    """The process ids of the product's sessions in this database."""
    yield from (
        pid
        for (pid,) in connection.execute(
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND application_name = 'tallystream' AND pid <> pg_backend_pid()"
        )
    )


@pytest.fixture
def pipelines(database: Database) -> Iterator[Callable[..., Pipeline]]:
    """Makes the test's pipeline: `pipelines(registers, partitions)`; its sessions end with the test."""
    made: list[Pipeline] = []

    def make(declared: Sequence[Register] = (INVENTORY,), partitions: int = 1) -> Pipeline:
        made.append(Pipeline(database, declared, partitions))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def pipeline(pipelines: Callable[..., Pipeline]) -> Pipeline:
    """One partition, and the register `inventory`."""
    return pipelines()
