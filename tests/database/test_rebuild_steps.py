"""A rebuild from the topic among others: batches, writers, readers, another rebuild, and its own death at any step."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from ingest.domain.plans import Outcome
from ingest.errors import OperatorError, RegistryChangedError, TransientError
from ingest.postgres import care
from ingest.rebuilder import Choices, Rebuilt
from tests.support.pipeline import PERIOD, Pipeline, line, movement, repost
from tests.support.rebuilds import HOLD_MS, KilledError, Watched, digest, killed_at, rebuild, rebuilder_of, store_of
from tests.support.sessions import Running, holding, wait_for_waiters
from tests.support.waiting import wait_until

DELETE = "DELETE FROM inventory_movements WHERE recorder = 'r1' RETURNING 1"
POST = "SELECT register_post('inventory', %s)"
INSERT = "INSERT INTO inventory_movements (recorder, period, product) VALUES ('h3', %s, 1) RETURNING 1"
UNDER_WAY = "SELECT count(*)::int FROM _rebuilds"
WAIT_S = 60


@pytest.fixture
def filled(pipeline: Pipeline) -> Pipeline:
    """Three batches of a rebuild, and movements by SQL."""
    pipeline.send(*(movement(f"r{number}", line(number % 2, "2")) for number in range(9)), repost("r2", line(7)))
    pipeline.consumer().apply()
    pipeline.rows(POST, [Jsonb({"recorder": "h1", "period": PERIOD, **line(1, "3")})])
    return pipeline


class Losing(Watched):
    """A store whose connection is lost when the exchange has been committed."""

    @contextmanager
    def _hold(self) -> Iterator[None]:
        with self.store.hold():
            yield
        if "exchange" in self.steps:
            raise TransientError("the connection is lost")


def check(pipeline: Pipeline, right: str) -> None:
    """The register is what it was, and nothing is left of the rebuild."""
    assert digest(pipeline) == right
    assert care.verify(pipeline.access, "inventory").found == {}
    assert pipeline.value(UNDER_WAY) == 0
    assert pipeline.value("SELECT count(*)::int FROM pg_class WHERE relname ~ '^shadow_'") == 0


def steps_of(pipeline: Pipeline) -> list[str]:
    """The steps of a whole rebuild."""
    watched = Watched(store_of(pipeline))
    rebuild(pipeline, watched)
    return watched.steps


def test_killed_at_any_step_it_resumes(filled: Pipeline, rng: random.Random) -> None:
    """Before it and after it, where it matters most and anywhere: the next run finishes, and nothing is there twice."""
    right, steps = digest(filled), steps_of(filled)
    places = {(steps.index(name), True) for name in ("begin", "accept_gaps", "claim", "apply", "carry", "compare")}
    places |= {(steps.index("exchange"), after) for after in (False, True)} | {(len(steps) - 1, True)}
    places |= {(rng.randrange(len(steps)), rng.random() < 0.5) for _ in range(6)}
    assert steps[-1] == "release"
    for number, after in sorted(places):
        filled.rows(DELETE)
        with pytest.raises(KilledError):
            rebuild(filled, killed_at(store_of(filled), number, after=after))
        resumed = bool(filled.value(UNDER_WAY))
        done = rebuild(filled)
        assert (done.exchanged, done.shadow.resumed) == (True, resumed), (steps[number], after)
        check(filled, right)


def test_a_lost_reply_to_the_commit_is_no_failure(filled: Pipeline) -> None:
    """The tables are exchanged, the connection is gone: the rebuild looks, and is done."""
    right = digest(filled)
    filled.rows(DELETE)
    store = Losing(store_of(filled))
    assert rebuild(filled, store).exchanged
    assert store.steps.count("exchange") == 1
    check(filled, right)


@pytest.mark.parametrize("time", [1, 2])
def test_a_batch_that_is_under_way_is_waited_for(filled: Pipeline, time: int) -> None:
    """It is in the shadow before the two are compared, and before the tables are exchanged."""
    rebuild(filled, dry_run=True, keep=True)
    filled.reload()
    filled.send(movement("late", line(1, "5")))
    consumer = filled.consumer()
    waits: list[str] = []
    applying: list[Running[object]] = []

    def begin(name: str, _number: int) -> None:
        waits.extend([name] * (name == "wait"))
        if len(waits) == time and not applying:
            applying.append(Running(consumer.apply))
            wait_for_waiters(filled.database)

    with holding(filled.database, "SELECT 1 FROM inventory_balance_cache FOR UPDATE"):
        rebuilding = Running(lambda: rebuild(filled, Watched(store_of(filled), before=begin)))
        wait_for_waiters(filled.database, 2)
        assert not rebuilding.done
    assert applying[0].error() is None
    assert rebuilding.result().exchanged
    assert filled.value("SELECT count(*)::int FROM inventory_movements WHERE recorder = 'late'") == 1
    check(filled, digest(filled))


def test_whoever_comes_during_the_exchange_goes_on_behind_it(filled: Pipeline) -> None:
    """A batch is decoded again and applied once; a post by SQL, and a plain INSERT, are in the new tables."""
    filled.send(movement("late", line(1, "5")))
    consumer = filled.consumer()
    late = Jsonb({"recorder": "h2", "period": PERIOD, **line(1, "4")})
    came: list[Running[object]] = []

    def come(name: str, _number: int) -> None:
        if name == "exchange":
            filled.reload()
            came.append(Running(consumer.apply))
            came.append(Running(lambda: filled.rows(POST, [late])))
            came.append(Running(lambda: filled.rows(INSERT, [PERIOD])))
            wait_for_waiters(filled.database, 3)

    assert rebuild(filled, Watched(store_of(filled), before=come)).exchanged
    batch, *by_hand = came
    assert isinstance(batch.error(), RegistryChangedError)
    assert [one.error() for one in by_hand] == [None, None]
    filled.reload()
    assert consumer.apply().outcomes == {Outcome.APPLIED: 1}
    found = filled.rows("SELECT recorder, count(*)::int FROM inventory_journal GROUP BY 1 ORDER BY 1 LIMIT 4")
    assert found == [("h1", 1), ("h2", 1), ("h3", 1), ("late", 1)]
    assert care.verify(filled.access, "inventory").found == {}


def test_a_reader_with_an_earlier_snapshot_is_waited_for(filled: Pipeline) -> None:
    """Names are not part of a snapshot: exchanged under it, the register would be empty to it."""
    read = "SELECT count(*)::int FROM accum.inventory_journal"
    with filled.database.connect(autocommit=False) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        [before] = reader.execute("SELECT count(*) FROM accum.register_list()").fetchall()
        waits: list[str] = []
        rebuilder = rebuilder_of(filled, report=lambda what, _done, _of: waits.append(what))
        rebuilding = Running(lambda: rebuilder.run(Choices()))
        wait_until(lambda: any("waiting for readers" in what for what in waits), WAIT_S, "the rebuild waits")
        filled.send(movement("late", line(1, "5")))
        filled.reload()
        filled.consumer().apply()
        [seen] = reader.execute(read.encode()).fetchall()
        assert not rebuilding.done
        reader.rollback()
    assert (before[0], seen[0]) == (1, 10)
    assert rebuilding.result().exchanged
    assert filled.value(read) == 11


def test_a_reader_who_is_in_the_way_for_long_keeps_nobody_waiting(filled: Pipeline) -> None:
    """The stream is let go when its time is over; once the reader has gone, the exchange succeeds."""
    with filled.database.connect(autocommit=False) as reader:
        reader.execute("SELECT count(*) FROM accum.inventory_balances")
        rebuilding = Running(lambda: rebuild(filled))
        wait_until(lambda: filled.value(UNDER_WAY) == 1, WAIT_S, "the rebuild has begun")
        filled.send(movement("late", line(1, "5")))
        consumer = filled.consumer()

        def applied() -> bool:
            filled.reload()
            try:
                return consumer.apply().outcomes == {Outcome.APPLIED: 1}
            except (RegistryChangedError, TransientError):
                return False

        wait_until(applied, WAIT_S, "a batch is applied meanwhile")
        assert not rebuilding.done
        reader.rollback()
    assert rebuilding.result().exchanged
    check(filled, digest(filled))


def test_the_stream_is_let_go_when_carrying_takes_too_long(filled: Pipeline) -> None:
    """Within the hold everything is bounded by it; the next try succeeds."""
    right, store = digest(filled), store_of(filled)
    store.hold_ms = 300
    blockers: list[Any] = []

    def block(name: str, _number: int) -> None:
        if name == "carry" and store.is_holding and not blockers:
            blockers.append(filled.database.connect(autocommit=False))
            shadow = filled.value("SELECT shadow FROM _rebuilds")
            blockers[0].execute(f"LOCK TABLE accum.{shadow}_movements IN ACCESS EXCLUSIVE MODE".encode())
        elif name == "targets" and blockers:
            blockers[0].close()
            store.hold_ms = HOLD_MS

    watched = Watched(store, before=block)
    assert rebuild(filled, watched).exchanged
    assert watched.steps.count("hold") == watched.steps.count("release") + 1
    check(filled, right)


def test_of_two_rebuilds_the_later_one_goes_on(filled: Pipeline) -> None:
    """The earlier one is fenced, as a worker would be, and says so."""
    right = digest(filled)
    later: list[Rebuilt] = []

    def overtake(name: str, _number: int) -> None:
        if name == "apply" and not later:
            later.append(rebuild(filled, dry_run=True, keep=True))

    with pytest.raises(OperatorError, match="another rebuild of this register runs"):
        rebuild(filled, Watched(store_of(filled), before=overtake))
    assert rebuild(filled).exchanged
    check(filled, right)
