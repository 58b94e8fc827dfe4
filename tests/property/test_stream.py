"""The whole stream against a naive oracle: whatever arrives, and wherever workers and connections die meanwhile.

Two workers share two partitions and take them from one another at any time. Events repeat, conflict, come late or make
no sense. Connections break before or behind any message to PostgreSQL; a worker then asks what became of its batch, or
is dead and another one goes on. In the end every movement, total, balance, count and dead letter is what the oracle
makes of the log, read once from its beginning.
"""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ingest.domain.applying import Standing
from ingest.errors import FencedError, TransientError
from tests.support.oracle import REGISTERS, STOCK, Object, Oracle, compare
from tests.support.pipeline import Consumer, Pipeline
from tests.support.postgres import Database, Databases
from tests.support.proxy import Cut, Proxy

PARTITIONS = 2
# The messages of one batch to PostgreSQL are fewer; a cut that lies behind them does not happen.
MOST_MESSAGES = 40

# Ends of days, months and years in UTC, London and New York, an hour that comes twice and one that does not exist.
PERIODS = [
    "2026-03-29T00:59:59.999999Z",
    "2026-03-29T01:00:00Z",
    "2026-04-30T22:59:59.999999Z",
    "2026-04-30T23:00:00Z",
    "2026-11-01T05:30:00Z",
    "2026-11-01T01:30:00-05:00",
    "2026-12-31T23:59:59.999999Z",
    "2027-01-01T00:00:00Z",
    "2027-01-01T05:00:00Z",
]


# ------------------------------------------------------------------------------------------------- what may happen


@dataclass(frozen=True, slots=True)
class Send:
    """A record arrives; its recorder decides the partition."""

    value: bytes
    partition: int


@dataclass(frozen=True, slots=True)
class Apply:
    """A worker applies up to so many records of each of its partitions; its connection may break, and it may die."""

    worker: int
    most: int
    cut: tuple[int, Cut] | None
    dies: bool


@dataclass(frozen=True, slots=True)
class Claim:
    """A worker takes partitions, whoever has them."""

    worker: int
    partitions: tuple[int, ...]


def movements(register: str, least: int) -> st.SearchStrategy[list[Object]]:
    """Lines of a document, at least so many."""
    numbers = st.integers(-3, 3)
    columns: dict[str, st.SearchStrategy[Any]] = {"product": st.integers(1, 2), "quantity": numbers}
    if register == STOCK.name:
        halves = numbers.map(lambda number: f"{number}.5")
        columns |= {"lot": st.sampled_from([None, "", "A"]), "quantity": halves, "amount": numbers}
    line = st.fixed_dictionaries(columns, optional={"period": st.sampled_from(PERIODS)})
    return st.lists(line, min_size=least, max_size=3)


@st.composite
def events(draw: st.DrawFn) -> Object:
    """A good event; few ids, revisions and recorders, so that they meet again."""
    register = draw(st.sampled_from(sorted(REGISTERS)))
    kind = draw(st.sampled_from(["movement", "movement", "repost", "unpost"]))
    recorder = draw(st.sampled_from("abc"))
    event: Object = {"id": f"e{draw(st.integers(1, 30))}", "type": kind, "register": register, "recorder": recorder}
    if draw(st.booleans()):
        event["revision"] = draw(st.integers(1, 5))
    if kind != "unpost":
        least = 1 if kind == "movement" else 0
        event |= {"period": draw(st.sampled_from(PERIODS)), "movements": draw(movements(register, least))}
    return event


def blunders(event: Object) -> st.SearchStrategy[bytes]:
    """The event with something wrong."""
    wrong = [
        event | {"register": "nowhere"},
        event | {"type": "repost", "period": PERIODS[0], "movements": [{"colour": "red"}]},
        event | {"type": "movement", "period": PERIODS[0], "movements": []},
        event | {"type": "unpost", "movements": []},
        event | {"id": 1.5},
    ]
    return st.sampled_from([b"nonsense", *(json.dumps(value).encode() for value in wrong)])


@st.composite
def sends(draw: st.DrawFn, before: Sequence[Object]) -> tuple[Object, bytes]:
    """Mostly a new event, else an earlier one again, as it was or under another id or revision; or a blunder."""
    again = draw(st.integers(0, 9)) if before else 0
    event: Object = draw(events()) if again < 6 else dict(draw(st.sampled_from(before)))
    if again == 7:
        event["id"] = f"f{draw(st.integers(1, 30))}"
    elif again == 8:
        event["revision"] = draw(st.integers(1, 5))
    value = json.dumps(event).encode()
    return event, draw(blunders(event)) if draw(st.integers(0, 14)) == 14 else value


@st.composite
def happenings(draw: st.DrawFn) -> list[Send | Apply | Claim]:
    """Many events, and fewer of everything else."""
    done: list[Send | Apply | Claim] = []
    before: list[Object] = []
    for _ in range(draw(st.integers(10, 60))):
        kind = draw(st.integers(0, 9))
        if kind < 7:
            event, value = draw(sends(before))
            before.append(event)
            done.append(Send(value, ord(event["recorder"]) % PARTITIONS))
        elif kind < 9:
            cut = draw(st.none() | st.tuples(st.integers(0, MOST_MESSAGES), st.sampled_from(Cut)))
            done.append(Apply(draw(st.integers(0, 1)), draw(st.integers(1, 6)), cut, draw(st.booleans())))
        else:
            partitions = draw(st.sampled_from([(0,), (1,), tuple(range(PARTITIONS))]))
            done.append(Claim(draw(st.integers(0, 1)), partitions))
    return done


# -------------------------------------------------------------------------------------------------------- the workers


@dataclass(slots=True)
class Workers:
    """Two workers, each behind a connection that may break."""

    pipeline: Pipeline
    proxies: tuple[Proxy, Proxy]
    consumers: dict[int, Consumer] = field(default_factory=dict)
    names: Iterator[int] = field(default_factory=itertools.count)

    def consumer(self, number: int) -> Consumer:
        if number not in self.consumers:
            store = self.pipeline.store(f"worker-{next(self.names)}", dsn=self.proxies[number].dsn)
            self.consumers[number] = Consumer(self.pipeline, store)
        return self.consumers[number]

    def claim(self, happening: Claim) -> None:
        self.consumer(happening.worker).claim(happening.partitions)

    def apply(self, happening: Apply) -> None:
        """As the worker does it: fenced, it claims anew; in doubt, it asks; dead, it is not asked any more."""
        consumer, proxy = self.consumer(happening.worker), self.proxies[happening.worker]
        batch = consumer.batch(happening.most)
        if not batch.spans:
            return
        if happening.cut is not None:
            skip, where = happening.cut
            proxy.cut(b"", where, skip)
        try:
            consumer.apply(batch)
        except FencedError:
            consumer.claims.clear()
        except TransientError:
            proxy.heal()
            if happening.dies:
                del self.consumers[happening.worker]
            elif (standing := consumer.store.standing(batch)) is Standing.COMMITTED:
                consumer.advance(batch)
            elif standing is Standing.FENCED:
                consumer.claims.clear()
        finally:
            proxy.heal()

    def finish(self) -> None:
        """Somebody reads what is left."""
        last = self.pipeline.consumer("last")
        if last.batch().spans:
            last.apply()


@pytest.fixture(scope="module")
def template(databases: Databases, migrated_template: Database) -> Iterator[Database]:
    """The two registers, empty; each example has a copy."""
    made = databases.create(migrated_template)
    Pipeline(made, list(REGISTERS.values())).close()
    yield made
    databases.drop(made)


# Not shrunk: an example has a database of its own, and hundreds of them take longer than a test may.
@settings(max_examples=50, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
@given(what=happenings())
def test_the_stream_is_what_the_oracle_makes_of_it(
    databases: Databases, template: Database, what: list[Send | Apply | Claim]
) -> None:
    """Crashes, zombies, lost replies and all: as if the log had been read once, quietly."""
    database = databases.create(template)
    pipeline = Pipeline(database, list(REGISTERS.values()), PARTITIONS)
    try:
        with Proxy(database.dsn) as one, Proxy(database.dsn) as other:
            workers = Workers(pipeline, (one, other))
            for happening in what:
                if isinstance(happening, Send):
                    pipeline.send(happening.value, partition=happening.partition)
                elif isinstance(happening, Claim):
                    workers.claim(happening)
                else:
                    workers.apply(happening)
            workers.finish()
        compare(pipeline, heard(what))
    finally:
        pipeline.close()
        databases.drop(database)


def heard(what: list[Send | Apply | Claim]) -> Oracle:
    """An oracle that has read the log."""
    oracle = Oracle()
    for happening in what:
        if isinstance(happening, Send):
            oracle.read(happening.value)
    return oracle
