"""Writers that meet: they wait for one another in one order, never in a ring, and nothing is lost or counted twice."""

import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import psycopg
import pytest

from ingest.domain.applying import Applied
from ingest.errors import TransientError
from tests.support.events import INVENTORY
from tests.support.pipeline import Consumer, Document, Pipeline, line, movement, repost, unpost
from tests.support.postgres import SEARCH_PATH, Database
from tests.support.sessions import Running, holding, together, wait_for_waiters

Pipelines = Callable[..., Pipeline]

WRITERS = 4
BATCHES = 4
CELLS = 120


def apply_all(consumer: Consumer, batches: int) -> Callable[[], None]:
    """Applies what waits, a batch at a time; a failure of any kind ends it."""

    def run() -> None:
        for _ in range(batches):
            consumer.apply(consumer.batch(most=30))

    return run


def crossing_documents(rng: random.Random, writer: int) -> list[Document]:
    """Documents of one writer over the cells that all share, in an order of its own."""
    documents = []
    for number in range(30 * BATCHES):
        lines = [line(product, "1") for product in rng.sample(range(CELLS), 20)]
        recorder = f"w{writer}-{number % 45}"
        make = movement if number < 45 else rng.choice([movement, repost])
        documents.append(make(recorder, *lines, id=f"{number}"))
    return documents


@pytest.mark.scenario("W11")
def test_crossing_batches_never_deadlock(pipelines: Pipelines, rng: random.Random) -> None:
    """Four writers add to, replace and remove from the same cells in different orders: no failure, no retry needed."""
    pipeline = pipelines(partitions=WRITERS)
    consumers = [pipeline.consumer(f"w{n}", partitions=[n]) for n in range(WRITERS)]
    for number in range(WRITERS):
        pipeline.send(*crossing_documents(rng, number), partition=number)
    assert together(*[apply_all(consumer, BATCHES) for consumer in consumers]) == [None] * WRITERS
    assert sum(pipeline.balances().values()) == pipeline.value("SELECT sum(quantity) FROM inventory_movements")
    pipeline.check()


def test_crossing_recorders_never_deadlock(pipelines: Pipelines) -> None:
    """Recorders are locked in order as well: batches that replace the same documents in opposite orders only queue."""
    pipeline = pipelines(partitions=WRITERS)
    first = pipeline.consumer("first", partitions=[0])
    names = [f"r{n}" for n in range(60)]
    pipeline.send(*[movement(name, line(1, "1")) for name in names])
    first.apply()
    consumers = [first, *[pipeline.consumer(f"w{n}", partitions=[n]) for n in range(1, WRITERS)]]
    for number in range(WRITERS):
        order = names if number % 2 else names[::-1]
        for _ in range(BATCHES):
            pipeline.send(*[repost(name, line(number, "1"), id=f"{number}") for name in order], partition=number)

    def run(consumer: Consumer) -> Callable[[], None]:
        def work() -> None:
            for _ in range(BATCHES):
                consumer.apply(consumer.batch(most=len(names)))

        return work

    assert together(*[run(consumer) for consumer in consumers]) == [None] * WRITERS
    assert pipeline.count("inventory_movements") == len(names)
    assert sum(pipeline.balances().values()) == len(names)
    pipeline.check()


def test_derived_rows_are_written_in_the_order_of_their_keys(pipelines: Pipelines) -> None:
    """Balances and totals alike, in one order for everybody: where new rows lie shows in which they came."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.send(movement("r", *[line(product) for product in range(60)]))
    consumer.apply()
    for table in ("totals_day", "totals_month", "totals_year", "balance_cache"):
        keys = [key for (key,) in pipeline.rows(f"SELECT dim_hash FROM inventory_{table} ORDER BY ctid")]  # noqa: S608
        assert (len(keys), keys) == (60, sorted(keys)), table


def reverse_the_fold(database: Database) -> None:
    """Lets a session say in which order the fold goes through its cells: what would be, were there no one order."""
    with database.connect(options=SEARCH_PATH) as owner:
        row = owner.execute("SELECT pg_get_functiondef('inventory_fold'::regproc)").fetchone()
        assert row is not None
        changed = row[0].replace(
            "ORDER BY d.dim_hash",
            "ORDER BY CASE current_setting('test.backwards', true) WHEN 'on' THEN -d.dim_hash ELSE d.dim_hash END",
        )
        assert changed != row[0]
        owner.execute(changed.encode())


@pytest.mark.parametrize("backwards", [False, True])
def test_key_order_is_what_prevents_deadlocks(pipelines: Pipelines, *, backwards: bool) -> None:
    """Two folds of three cells that meet at the one in the middle: in one order they queue, else they deadlock."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.send(*[movement("r0", line(product, "1")) for product in range(3)])
    consumer.apply()
    reverse_the_fold(pipeline.database)
    (_, middle, _) = [key for (key,) in pipeline.rows("SELECT dim_hash FROM inventory_balance_cache ORDER BY 1")]

    def post(period: str, setting: str) -> None:
        with pipeline.database.connect(options=f"{SEARCH_PATH} -c test.backwards={setting}") as session:
            session.execute(
                "INSERT INTO inventory_movements (recorder, period, warehouse, product, lot, quantity)"
                " SELECT 'in ' || %s, %s, 1, n, 'A', 1 FROM generate_series(0, 2) AS n",
                [period, period],
            )

    # Two years, so that the folds meet in the balance only.
    pipeline.rows("SELECT _ensure_partitions('inventory', '{2026-05-01, 2027-05-01}')")
    with holding(pipeline.database, "SELECT 1") as third:
        third.execute("SELECT 1 FROM inventory_balance_cache WHERE dim_hash = %s FOR UPDATE", [middle])
        one = Running(lambda: post("2026-05-01 12:00+00", "off"))
        wait_for_waiters(pipeline.database)
        other = Running(lambda: post("2027-05-01 12:00+00", "on" if backwards else "off"))
        wait_for_waiters(pipeline.database, 2)
    errors = [error for error in (one.error(), other.error()) if error is not None]
    if backwards:
        (error,) = errors
        assert isinstance(error, psycopg.errors.DeadlockDetected)
    else:
        assert errors == []
    assert set(pipeline.balances().values()) == {Decimal(3 - len(errors))}
    pipeline.check()


def test_two_reposts_of_one_recorder(pipelines: Pipelines) -> None:
    """Two workers replace one document at the same time, again and again: exactly one version is left each time."""
    pipeline = pipelines(partitions=2)
    consumers = [pipeline.consumer(f"w{n}", partitions=[n]) for n in range(2)]
    for turn in range(10):
        for number in range(2):
            lines = [line(product, f"{turn * 2 + number + 1}") for product in range(number, number + 3)]
            pipeline.send(repost("r1", *lines), partition=number)
        errors = together(*[consumer.apply for consumer in consumers])
        # Only a document that is new to both may have to be tried again.
        for consumer, error in zip(consumers, errors, strict=True):
            if error is not None:
                assert turn == 0
                assert isinstance(error, TransientError)
                consumer.apply()
        quantities = {value for (value,) in pipeline.rows("SELECT quantity FROM inventory_movements")}
        assert len(quantities) == 1
        assert pipeline.count("inventory_movements") == 3
        assert set(pipeline.balances().values()) == quantities
    pipeline.check()


def test_a_new_recorder_made_by_two(pipelines: Pipelines) -> None:
    """A document that two workers see first at the same time: the later one notices, and is applied to the other's."""
    pipeline = pipelines(partitions=2)
    one, other = [pipeline.consumer(f"w{n}", partitions=[n]) for n in range(2)]
    pipeline.send(movement("r0", line(1, "100")), partition=0)
    one.apply()
    pipeline.send(movement("r1", line(1, "1"), id="a"), partition=0)
    pipeline.send(movement("r1", line(1, "10"), id="b"), movement("r1", line(1, "1"), id="a"), partition=1)
    with holding(pipeline.database, "LOCK TABLE inventory_movements IN SHARE MODE"):
        first = Running(one.apply)
        wait_for_waiters(pipeline.database)
        second = Running(other.apply)
        wait_for_waiters(pipeline.database, 2)
    assert isinstance(first.result(), Applied)
    assert isinstance(second.error(), TransientError)
    assert other.apply().outcomes == {"applied": 1, "duplicate": 1}
    assert pipeline.balances() == {(1, 1, "A"): 111}
    pipeline.check()


def test_known_recorders_come_before_new_ones_for_everybody(pipelines: Pipelines) -> None:
    """A worker that holds a known recorder and makes a new one never meets a hand that does it the other way round."""
    pipeline = pipelines()
    worker = pipeline.consumer()
    pipeline.send(movement("y", line(1)), movement("z", line(1)))
    worker.apply()
    pipeline.send(movement("a", line(2)), movement("y", line(2)), movement("z", line(2)))
    post = """
        INSERT INTO inventory_movements (recorder, period, warehouse, product, lot, quantity, amount)
        SELECT r, '2026-04-18T10:00:00Z', 1, 3, 'A', 1, 0 FROM unnest('{a,y}'::text[]) AS r
    """
    with pipeline.database.connect(options=SEARCH_PATH) as hand:
        with holding(pipeline.database, "SELECT 1 FROM inventory_recorders WHERE recorder = 'z' FOR UPDATE"):
            applying = Running(worker.apply)
            wait_for_waiters(pipeline.database)
            posting = Running(lambda: hand.execute(post.encode()))
            wait_for_waiters(pipeline.database, 2)
        assert (applying.error(), posting.error()) == (None, None)
    assert pipeline.balances() == {(1, 1, "A"): 2, (1, 2, "A"): 3, (1, 3, "A"): 2}
    pipeline.check()


def test_a_hand_and_a_worker_on_one_recorder(pipelines: Pipelines) -> None:
    """What a person inserted for a document while a worker replaced it is neither lost to an unpost nor forgotten."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line(1, "1")))
    consumer.apply()
    pipeline.send(repost("r1", line(2, "5")))
    with pipeline.database.connect(autocommit=False, options=SEARCH_PATH) as hand:
        hand.execute(
            "INSERT INTO inventory_movements (recorder, period, warehouse, product, lot, quantity)"
            " VALUES ('r1', '2026-04-02 00:00+00', 1, 1, 'A', 100)"
        )
        working = Running(consumer.apply)
        wait_for_waiters(pipeline.database)
        hand.commit()
    working.result()
    assert pipeline.balances() == {(1, 2, "A"): 5}
    pipeline.check()


def versions(pipeline: Pipeline) -> dict[int, int]:
    """How often each product's balance was folded."""
    return dict(pipeline.rows("SELECT product, version FROM inventory_balance_cache"))


def test_a_repost_folds_each_cell_once(pipeline: Pipeline) -> None:
    """The deletion waits for the insertion of the same transaction: one pass over the cells, one version more."""
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", *[line(product, "1") for product in range(4)]))
    consumer.apply()
    assert versions(pipeline) == dict.fromkeys(range(4), 1)
    pipeline.send(repost("r1", line(0, "7"), line(1, "1"), line(9, "3")))
    consumer.apply()
    # Product 1 is as it was, so nobody had to wait for it.
    assert versions(pipeline) == {0: 2, 1: 1, 2: 2, 3: 2, 9: 1}
    assert pipeline.balances() == {(1, 0, "A"): 7, (1, 1, "A"): 1, (1, 9, "A"): 3}
    pipeline.check()


def test_reposts_and_unposts_of_several_registers(pipelines: Pipelines) -> None:
    """Registers are folded one after the other, also when one only loses movements and the next only gains some."""
    names = ("aa", "inventory", "zz")
    pipeline = pipelines([replace(INVENTORY, name=name) for name in names])
    consumer = pipeline.consumer()
    pipeline.send(*[movement(f"r{n}", line(n, "1"), register=name) for name in names for n in range(3)])
    consumer.apply()
    pipeline.send(
        unpost("r0", register="aa"),
        repost("r0", line(5, "5"), register="inventory"),
        repost("r1", register="inventory"),
        unpost("r2", register="zz"),
        movement("r3", line(3, "1"), register="zz"),
    )
    consumer.apply()
    assert pipeline.balances("aa") == {(1, 1, "A"): 1, (1, 2, "A"): 1}
    assert pipeline.balances() == {(1, 5, "A"): 5, (1, 2, "A"): 1}
    assert pipeline.balances("zz") == {(1, 0, "A"): 1, (1, 1, "A"): 1, (1, 3, "A"): 1}
    pipeline.check()


INSERT = (
    "INSERT INTO inventory_movements (recorder, period, warehouse, product, lot, quantity)"
    " VALUES ('r1', '2026-04-03 00:00+00', 1, {product}, 'A', {quantity})"
)
DELETE = "DELETE FROM inventory_movements WHERE recorder = 'r1'"
ON = "SELECT set_config('tallystream.defer_fold', 'on', true)"
OFF = "SELECT set_config('tallystream.defer_fold', 'off', true)"


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([DELETE], {}),
        ([ON, DELETE], {}),
        ([ON, INSERT.format(product=1, quantity=4)], {1: 14}),
        ([ON, DELETE, INSERT.format(product=1, quantity=4)], {1: 4}),
        ([ON, DELETE, OFF, INSERT.format(product=1, quantity=4)], {1: 4}),
        ([ON, DELETE, INSERT.format(product=1, quantity=4), DELETE, INSERT.format(product=2, quantity=6)], {2: 6}),
        ([ON, INSERT.format(product=2, quantity=6), DELETE], {}),
        ([ON, DELETE, DELETE], {}),
        ([ON, "SAVEPOINT s", DELETE, "ROLLBACK TO s"], {1: 10}),
        ([ON, DELETE, "SAVEPOINT s", INSERT.format(product=1, quantity=4), "ROLLBACK TO s"], {}),
        ([ON, DELETE, "SAVEPOINT s", OFF, INSERT.format(product=1, quantity=4), "RELEASE s"], {1: 4}),
        (["SET CONSTRAINTS ALL IMMEDIATE", ON, DELETE, INSERT.format(product=1, quantity=4)], {1: 4}),
        ([ON, DELETE, "SET CONSTRAINTS ALL IMMEDIATE", INSERT.format(product=1, quantity=4)], {1: 4}),
        ([ON, "DELETE FROM inventory_movements WHERE false"], {1: 10}),
        (["SET tallystream.defer_fold = 'nonsense'", DELETE, INSERT.format(product=1, quantity=4)], {1: 4}),
    ],
)
def test_whoever_defers_the_fold_gets_the_same_sums(
    pipeline: Pipeline, statements: list[str], expected: dict[int, int]
) -> None:
    """The setting decides when a deletion is folded, never whether: at the commit everything is in step."""
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line(1, "10")))
    consumer.apply()
    with pipeline.database.connect(autocommit=False, options=SEARCH_PATH) as hand:
        for statement in statements:
            hand.execute(statement.encode())
    assert {product: quantity for (_, product, _), quantity in pipeline.balances().items()} == expected
    pipeline.check()


def test_a_deferred_fold_is_invisible_to_others(pipeline: Pipeline) -> None:
    """What one session has deferred, no other one folds, sees or waits for."""
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line(1, "10")), movement("r2", line(2, "10")))
    consumer.apply()
    pipeline.send(repost("r2", line(2, "3")))
    batch = consumer.batch()
    with pipeline.database.connect(autocommit=False, options=SEARCH_PATH) as hand:
        hand.execute(ON.encode())
        hand.execute(DELETE.encode())
        consumer.apply(batch)
        assert pipeline.balances() == {(1, 1, "A"): 10, (1, 2, "A"): 3}
        pipeline.check()
    assert pipeline.balances() == {(1, 2, "A"): 3}
    pipeline.check()
