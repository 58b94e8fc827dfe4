"""Each record is applied once: two workers with one partition, lost connections, replies that never come, replays."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import psycopg
import pytest

from ingest.domain.applying import Applied, Standing
from ingest.domain.batches import MOST_ATTEMPTS
from ingest.domain.plans import Outcome
from ingest.domain.positions import TopicPartition
from ingest.errors import FencedError, RegistryChangedError, TooLargeError, TransientError
from ingest.postgres import registers
from ingest.postgres.connections import Connection
from tests.support.events import INVENTORY
from tests.support.failpoints import Failpoints, watched
from tests.support.pipeline import (
    TOPIC,
    Consumer,
    Pipeline,
    line,
    movement,
    repost,
    unpost,
)
from tests.support.postgres import SEARCH_PATH, Database
from tests.support.proxy import COMMIT, Cut, Proxy
from tests.support.sessions import Running, holding, together, wait_for_waiters

Pipelines = Callable[..., Pipeline]

# What a session can hold, in the order in which a batch comes to it, and so where a batch can be caught.
STEPS = {
    "declarations": "SELECT pg_advisory_xact_lock(_lock_key('registry'))",
    "position": "SELECT 1 FROM _positions FOR UPDATE",
    "recorder": "SELECT 1 FROM inventory_recorders FOR UPDATE",
    "batch row": "LOCK TABLE _batches IN SHARE MODE",
    "movements": "LOCK TABLE inventory_movements IN SHARE MODE",
    "day totals": "SELECT 1 FROM inventory_totals_day FOR UPDATE",
    "balance": "SELECT 1 FROM inventory_balance_cache FOR UPDATE",
}


def seeded(pipelines: Pipelines) -> tuple[Pipeline, Consumer]:
    """A pipeline where recorder, cell and totals exist, with more to apply."""
    pipeline = pipelines()
    first = pipeline.consumer("first")
    pipeline.send(movement("r1", line(1, "1")))
    first.apply()
    pipeline.send(movement("r1", line(1, "10")), movement("r2", line(1, "100"), line(2, "1")))
    return pipeline, first


EXPECTED = {(1, 1, "A"): 111, (1, 2, "A"): 1}


@pytest.mark.scenario("B5")
def test_a_former_owner_applies_nothing(pipelines: Pipelines) -> None:
    """Once another worker has claimed the partition, a batch of the former owner changes nothing at all."""
    pipeline, zombie = seeded(pipelines)
    late = zombie.batch()
    owner = pipeline.consumer("owner")
    with pytest.raises(FencedError):
        zombie.store.apply(late, pipeline.registry)
    assert pipeline.balances() == {(1, 1, "A"): 1}
    assert zombie.store.standing(late) is Standing.FENCED
    owner.apply()
    with pytest.raises(FencedError):
        zombie.store.apply(late, pipeline.registry)
    assert pipeline.balances() == EXPECTED
    pipeline.check()


@pytest.mark.scenario("W6")
def test_one_claim_in_two_hands(pipelines: Pipelines) -> None:
    """Even two stores with the very same claim cannot both apply a batch: only one finds the position expected."""
    pipeline, first = seeded(pipelines)
    twin = Consumer(pipeline, pipeline.store("twin"), dict(first.claims))
    batch = first.batch()
    errors = together(
        lambda: first.store.apply(batch, pipeline.registry), lambda: twin.store.apply(batch, pipeline.registry)
    )
    assert sorted(type(error).__name__ for error in errors) == ["FencedError", "NoneType"]
    assert pipeline.balances() == EXPECTED
    pipeline.check()


@pytest.mark.parametrize("step", STEPS)
def test_a_claim_in_the_middle_of_a_batch(pipelines: Pipelines, step: str) -> None:
    """Wherever a batch is when another worker claims its partition: all of it is applied, or nothing; never twice."""
    pipeline, zombie = seeded(pipelines)
    batch = zombie.batch()
    owner = Consumer(pipeline, pipeline.store("owner"))
    with holding(pipeline.database, STEPS[step]):
        applying = Running(lambda: zombie.store.apply(batch, pipeline.registry))
        wait_for_waiters(pipeline.database)
        claiming = Running(owner.claim)
        if step != "declarations":
            wait_for_waiters(pipeline.database, 2)
    claiming.result()
    error = applying.error()
    assert error is None or isinstance(error, FencedError)
    (claim,) = owner.claims.values()
    assert claim.next_offset == (1 if error else 3)
    if error:
        owner.apply()
    assert pipeline.balances() == EXPECTED
    pipeline.check()


@pytest.mark.scenario("B13")
@pytest.mark.parametrize("error", [FencedError("created anew"), TransientError("no answer")])
def test_a_batch_that_is_not_confirmed_leaves_nothing(pipelines: Pipelines, error: Exception) -> None:
    """While its topics are asked about, which may take a while, it locks no cell; it can be applied afterwards."""
    pipeline, consumer = seeded(pipelines)
    batch = consumer.batch()

    def confirm() -> None:
        with pipeline.database.connect(autocommit=False) as other:
            other.execute("SELECT 1 FROM accum.inventory_totals_day, accum.inventory_balance_cache FOR UPDATE NOWAIT")
        raise error

    with pytest.raises(type(error), match=str(error)):
        consumer.store.apply(replace(batch, confirm=confirm), pipeline.registry)
    assert consumer.store.standing(batch) is Standing.NOT_COMMITTED
    consumer.apply(batch)
    assert pipeline.balances() == EXPECTED
    pipeline.check()


@pytest.mark.scenario("P3")
@pytest.mark.parametrize("step", STEPS)
def test_a_session_that_is_killed_in_the_middle_of_a_batch(pipelines: Pipelines, step: str) -> None:
    """Whatever a batch had done when its session ended is gone; the positions say so, and it is applied again."""
    pipeline, consumer = seeded(pipelines)
    batch = consumer.batch()
    with holding(pipeline.database, STEPS[step]), pipeline.database.connect() as owner:
        applying = Running(lambda: consumer.store.apply(batch, pipeline.registry))
        wait_for_waiters(pipeline.database)
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        assert isinstance(applying.error(), TransientError)
    assert consumer.store.standing(batch) is Standing.NOT_COMMITTED
    consumer.apply(batch)
    assert consumer.store.standing(batch) is Standing.COMMITTED
    assert pipeline.balances() == EXPECTED
    pipeline.check()


@pytest.mark.scenario("N1", "N2")
@pytest.mark.parametrize("where", list(Cut))
def test_a_connection_that_breaks_at_the_commit(pipelines: Pipelines, where: Cut) -> None:
    """Before COMMIT and after it look alike to the worker; the positions tell them apart."""
    pipeline, first = seeded(pipelines)
    with Proxy(pipeline.database.dsn) as proxy:
        store = pipeline.store("behind the proxy", dsn=proxy.dsn)
        consumer = Consumer(pipeline, store, dict(first.claims))
        batch = consumer.batch()
        proxy.cut(COMMIT, where, skip=1)  # the first one is of the partitions
        with pytest.raises(TransientError):
            store.apply(batch, pipeline.registry)
        assert proxy.cuts == 1
        if where is Cut.AFTER:
            assert store.standing(batch) is Standing.COMMITTED
            with pytest.raises(FencedError):
                store.apply(batch, pipeline.registry)
        else:
            assert store.standing(batch) is Standing.NOT_COMMITTED
            consumer.apply(batch)
    assert pipeline.balances() == EXPECTED
    pipeline.check()


@pytest.mark.scenario("N3")
def test_a_connection_that_breaks_anywhere(pipelines: Pipelines) -> None:
    """Whichever message of a batch is the one that the network swallows, the batch can be repeated."""
    pipeline, first = seeded(pipelines)
    words = [b"set_config", b"_begin_batch", b"_recorders", b"_batches", b"COPY"]
    with Proxy(pipeline.database.dsn) as proxy:
        store = pipeline.store("behind the proxy", dsn=proxy.dsn)
        consumer = Consumer(pipeline, store, dict(first.claims))
        for number, word in enumerate(words):
            pipeline.send(repost("r1", line(1, f"{number}")))
            batch = consumer.batch()
            for where in Cut:
                proxy.cut(word, where)
                with pytest.raises(TransientError):
                    store.apply(batch, pipeline.registry)
            proxy.heal()
            assert store.standing(batch) is Standing.NOT_COMMITTED
            consumer.apply(batch)
    assert pipeline.balances() == {(1, 1, "A"): 100 + len(words) - 1, (1, 2, "A"): 1}
    pipeline.check()


def test_a_recorder_that_another_session_makes_first(pipelines: Pipelines) -> None:
    """The batch was planned without its state: it fails in passing, and is planned anew with it."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.rows("SELECT _ensure_partitions('inventory', '{2026-04-18}')")
    pipeline.send(movement("r1", line(1, "5")))
    batch = consumer.batch()
    with pipeline.database.connect(autocommit=False, options=SEARCH_PATH) as other:
        other.execute(
            "INSERT INTO inventory_movements (recorder, period, warehouse, product, lot, quantity, amount)"
            " VALUES ('r1', '2026-04-18T10:00:00Z', 1, 2, 'A', 1, 0)"
        )
        applying = Running(lambda: consumer.store.apply(batch, pipeline.registry))
        wait_for_waiters(pipeline.database)
        other.commit()
    assert isinstance(applying.error(), TransientError)
    consumer.apply(batch)
    assert pipeline.balances() == {(1, 1, "A"): 5, (1, 2, "A"): 1}
    pipeline.check()


def test_one_stolen_partition_stops_the_whole_batch(pipelines: Pipelines) -> None:
    """A batch of several partitions is applied as a whole or not at all."""
    pipeline = pipelines(partitions=3)
    zombie = pipeline.consumer("zombie")
    for number in range(3):
        pipeline.send(movement(f"r{number}", line(number, "1")), partition=number)
    batch = zombie.batch()
    pipeline.consumer("owner", partitions=[1])
    with pytest.raises(FencedError, match="1 of 3 partitions"):
        zombie.store.apply(batch, pipeline.registry)
    assert pipeline.balances() == {}
    assert pipeline.value("SELECT sum(next_offset) FROM _positions") == 0


def test_standing_of_a_position_that_went_back(pipelines: Pipelines) -> None:
    """A server that lost its last commits is noticed: neither before nor after the batch means everything anew."""
    pipeline, consumer = seeded(pipelines)
    batch = consumer.batch()
    with pipeline.database.connect() as owner:
        owner.execute("UPDATE accum._positions SET next_offset = 0")
    assert consumer.store.standing(batch) is Standing.FENCED
    with pytest.raises(FencedError):
        consumer.store.apply(batch, pipeline.registry)


@pytest.mark.scenario("B19", "O6", "X11")
def test_the_whole_stream_again(pipelines: Pipelines) -> None:
    """Everything read a second time, by moved positions or produced anew, changes nothing and is counted."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.send(
        movement("r1", line(1, "5"), line(2, "7")),
        movement("r2", line(1, "3"), revision=1),
        repost("r1", line(2, "4")),
        repost("r2", line(3, "9"), revision=2),
        unpost("r1"),
        movement("r1", line(5, "2.5")),
    )
    consumer.apply()
    expected = pipeline.rows("SELECT recorder, product, quantity FROM inventory_journal ORDER BY 1, 2, 3")
    versions = pipeline.rows("SELECT product, version FROM inventory_balance_cache ORDER BY 1")
    pipeline.check()
    assert pipeline.move("start").skipped == 0
    consumer.claim()
    applied = consumer.apply()
    assert applied.outcomes == {Outcome.DUPLICATE: 6}
    assert applied.movements == 0
    pipeline.send(*[message.value for message in pipeline.log[TopicPartition(TOPIC, 0)]])
    assert consumer.apply().outcomes == {Outcome.DUPLICATE: 6}
    assert pipeline.rows("SELECT recorder, product, quantity FROM inventory_journal ORDER BY 1, 2, 3") == expected
    assert pipeline.rows("SELECT product, version FROM inventory_balance_cache ORDER BY 1") == versions
    assert not registers.verify_register(pipeline.access, "inventory")


def test_a_claim_waits_for_the_batch_that_runs(pipelines: Pipelines) -> None:
    """The new owner reads on after the old one's last batch, or hears that it has to ask again."""
    pipeline, first = seeded(pipelines)
    batch = first.batch()
    with holding(pipeline.database, STEPS["movements"]):
        applying = Running(lambda: first.store.apply(batch, pipeline.registry))
        wait_for_waiters(pipeline.database)
        hasty = Consumer(pipeline, pipeline.store("hasty", lock_timeout_ms=50))
        with pytest.raises(TransientError, match="55P03"):
            hasty.claim()
    assert isinstance(applying.result(), Applied)
    hasty.claim()
    assert [claim.next_offset for claim in hasty.claims.values()] == [3]


def test_claims_and_batches_never_wait_in_a_ring(pipelines: Pipelines) -> None:
    """Both lock positions in one order, whichever order the partitions were first seen in."""
    pipeline = pipelines(partitions=2)
    first = pipeline.consumer("first", partitions=[1])
    first.claim([0])
    assert [claim.position_id for _, claim in sorted(first.claims.items())] == [2, 1]
    for number in range(2):
        pipeline.send(movement(f"r{number}", line(number)), partition=number)
    batch = first.batch()
    other = Consumer(pipeline, pipeline.store("other"))
    with holding(pipeline.database, "SELECT 1 FROM _positions WHERE partition = 0 FOR UPDATE"):
        claiming = Running(other.claim)
        wait_for_waiters(pipeline.database)
        applying = Running(lambda: first.store.apply(batch, pipeline.registry))
        wait_for_waiters(pipeline.database, 2)
    assert len(claiming.result().taken) == 2
    assert isinstance(applying.error(), FencedError)
    other.apply()
    pipeline.check()


@pytest.mark.scenario("B13")
def test_two_first_claims_of_a_partition_that_was_made_anew(pipeline: Pipeline) -> None:
    """Who asked before the topic was made anew, and comes second, neither takes the position nor says whose it is."""
    (bound,) = pipeline.bounds()
    late = pipeline.store("late")
    first = """
        INSERT INTO _positions (consumer_group, topic, topic_id, partition, next_offset, owner)
        VALUES ('tests', 'events', 'anew', 0, 5, 'first')
    """
    with holding(pipeline.database, first) as session:
        claiming = Running(lambda: late.claim([bound]))
        wait_for_waiters(pipeline.database)
        session.commit()
    assert "at the same time" in str(claiming.error())
    assert pipeline.rows("SELECT topic_id, next_offset, owner FROM _positions") == [("anew", 5, "first")]
    ((_, error),) = late.claim([bound]).stopped
    assert "created again" in str(error)


@pytest.mark.scenario("B11", "B12", "B13")
def test_a_position_that_contradicts_its_log_is_left_alone(pipelines: Pipelines) -> None:
    """That partition is not taken, its row stays as it is, and the message names the offsets; the others are taken."""
    pipeline = pipelines(partitions=4)
    consumer = pipeline.consumer()
    for number in range(4):
        pipeline.send(movement(f"r{number}", line(number)), partition=number)
    consumer.apply()
    before = pipeline.rows("SELECT partition, next_offset, epoch, owner, topic_id FROM _positions ORDER BY 1")
    good, gone, shorter, another = pipeline.bounds()
    claims = consumer.store.claim(
        [replace(gone, low=5, high=9), good, replace(shorter, high=0), replace(another, topic_id="another")]
    )
    assert [claim.topic_partition.partition for claim in claims.taken] == [0]
    messages = {topic_partition.partition: str(error) for topic_partition, error in claims.stopped}
    assert "offsets 1..4 of topic events partition 1 are gone" in messages[1]
    assert "ends at offset 0, but the stored position is 1" in messages[2]
    assert "its topic id was id and is another now" in messages[3]
    after = pipeline.rows("SELECT partition, next_offset, epoch, owner, topic_id FROM _positions ORDER BY 1")
    assert after[1:] == before[1:]
    assert after[0][2] > before[0][2]


@pytest.mark.scenario("W5")
def test_attempts_are_counted_until_batches_prove_the_contrary(pipelines: Pipelines) -> None:
    """Every claim with events waiting is one more; a batch says how many are left; nobody is blamed for calm."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    attempts = partial(_attempts, consumer)
    assert [attempts(), attempts()] == [1, 1]
    pipeline.send(movement("r1", line(1)))
    assert [attempts(), attempts()] == [2, 3]
    batch = consumer.batch()
    (span,) = batch.spans
    consumer.apply(replace(batch, spans=(replace(span, claim=replace(span.claim, attempts=1)),)))
    assert [attempts(), attempts()] == [1, 1]
    pipeline.send(movement("r2", line(2)))
    assert [attempts() for _ in range(20)] == [*range(2, MOST_ATTEMPTS + 1), *[MOST_ATTEMPTS] * 4]
    pipeline.move("0")
    assert attempts() == 1


def _attempts(consumer: Consumer) -> int:
    (claim,) = consumer.claim().taken
    return claim.attempts


@pytest.mark.scenario("W5")
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (psycopg.errors.OutOfMemory(), TooLargeError),
        (psycopg.OperationalError("out of memory"), MemoryError),
        (MemoryError(), MemoryError),
    ],
)
def test_a_lack_of_memory_is_not_tried_again_with_the_same_batch(
    pipelines: Pipelines, error: Exception, raised: type[Exception]
) -> None:
    """The server's: the worker reads again, smaller. The process's own: it ends. Nothing is applied in either case."""

    class Narrow(Failpoints):
        def reach(self, name: str, connection: Connection) -> None:
            super().reach(name, connection)
            if name == "copy_movements: rows":
                raise error

    pipeline, consumer = seeded(pipelines)
    access = consumer.store.database
    consumer.store.close()
    consumer.store.database = replace(access, connection_class=watched(Narrow()))
    with pytest.raises(raised):
        consumer.apply()
    consumer.store.close()
    consumer.store.database = access
    consumer.apply()
    assert pipeline.balances() == EXPECTED
    pipeline.check()


def test_a_new_partition_begins_at_the_logs_start(pipelines: Pipelines) -> None:
    """Where nothing was ever read there is nothing to contradict."""
    pipeline = pipelines()
    (bound,) = pipeline.bounds()
    (claim,) = pipeline.consumer(partitions=[]).store.claim([replace(bound, low=7, high=9)]).taken
    assert claim.next_offset == 7
    assert claim.epoch > 0


@pytest.mark.scenario("B13")
def test_a_topic_that_was_created_anew_is_read_once_a_person_accepts_it(pipelines: Pipelines) -> None:
    """What the message advises can be done, reads the new log from its start, and loses no dead letter of either."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.send(b"old")
    consumer.apply()
    (bound,) = (replace(bound, topic_id="another") for bound in pipeline.bounds())
    ((_, error),) = consumer.store.claim([bound]).stopped
    assert "tallystream positions set events 0 --to start --reason '...' --accept-new-topic" in str(error)
    moved = pipeline.move("start", bound, accept_new_topic=True)
    assert (moved.from_offset, moved.to_offset, moved.skipped, moved.retired) == (1, 0, 0, True)
    (claim,) = consumer.store.claim([bound]).taken
    assert claim.next_offset == bound.low
    consumer.claims = {claim.topic_partition: claim}
    consumer.apply()
    assert pipeline.value("SELECT count(*) FROM _dead_letters") == 2


def test_groups_do_not_share_positions(pipelines: Pipelines) -> None:
    """Another group reads from the beginning; what was applied already is recognised by its recorder."""
    pipeline, first = seeded(pipelines)
    first.apply()
    other = Consumer(pipeline, pipeline.store(group="another group"))
    other.claim()
    assert other.apply().outcomes == {Outcome.DUPLICATE: 3}
    assert pipeline.balances() == EXPECTED
    pipeline.check()


def test_declarations_stand_still_while_a_batch_runs(pipelines: Pipelines) -> None:
    """A change of a register waits for running batches, and a batch decoded before the change is decoded again."""
    pipeline, consumer = seeded(pipelines)
    batch = consumer.batch()
    with holding(pipeline.database, STEPS["movements"]):
        applying = Running(lambda: consumer.store.apply(batch, pipeline.registry))
        wait_for_waiters(pipeline.database)
        more = replace(INVENTORY, name="more")
        changing = Running(lambda: registers.apply_registers(pipeline.access, [more]))
        wait_for_waiters(pipeline.database, 2)
        assert not changing.done
    applying.result()
    changing.result()
    consumer.advance(batch)
    pipeline.send(movement("r3", line(3)))
    late = consumer.batch()
    with pytest.raises(RegistryChangedError):
        consumer.store.apply(late, pipeline.registry)
    pipeline.reload()
    with pytest.raises(RegistryChangedError):
        consumer.store.apply(late, pipeline.registry)
    consumer.apply()
    pipeline.check()


def test_a_register_dropped_meanwhile_refuses_nothing(pipelines: Pipelines) -> None:
    """Events of a register that is gone are decoded again, and only then refused: nobody is probed for it."""
    pipeline, consumer = seeded(pipelines)
    batch = consumer.batch()
    with pipeline.database.connect() as owner:
        owner.execute("SELECT accum.register_drop('inventory', true)")
    fresh = Consumer(pipeline, pipeline.store("fresh"), dict(consumer.claims))
    for store in (consumer.store, fresh.store):
        with pytest.raises(RegistryChangedError):
            store.apply(batch, pipeline.registry)
    assert pipeline.count("_dead_letters") == 0
    pipeline.reload()
    assert consumer.apply().outcomes == {Outcome.DEAD_LETTER: 2}


@pytest.mark.scenario("W8")
@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
def test_what_the_role_defaults_to_does_not_matter(pipelines: Pipelines, database: Database, isolation: str) -> None:
    """Isolation, time zone, styles, encoding and search path of the role are not what a batch rests on."""
    settings = {
        "default_transaction_isolation": f"'{isolation}'",
        "default_transaction_deferrable": "on",
        "TimeZone": "'Asia/Kolkata'",
        "DateStyle": "'SQL, DMY'",
        "IntervalStyle": "sql_standard",
        "bytea_output": "escape",
        "client_encoding": "LATIN1",
        "search_path": "public",
        "extra_float_digits": "-15",
        "tallystream.defer_fold": "'on'",
    }
    with database.connect_as_admin() as admin:
        for name, value in settings.items():
            statement = f"ALTER ROLE {database.owner} IN DATABASE {database.name} SET {name} = {value}"
            admin.execute(statement.encode())
    pipeline = pipelines(partitions=2)
    one, other = pipeline.consumer("one", partitions=[0]), pipeline.consumer("other", partitions=[1])
    for number in range(2):
        pipeline.send(repost("r1", line(1, f"{number + 1}", lot="ł…\t🛒")), partition=number)
    with holding(database, "SELECT pg_advisory_xact_lock(_lock_key('registry'))"):
        applying = [Running(one.apply), Running(other.apply)]
        wait_for_waiters(database, 2)
    for running in applying:
        running.error()
    for consumer in (one, other):
        if pipeline.value("SELECT next_offset FROM _positions WHERE owner = %s", [consumer.store.worker]) == 0:
            consumer.apply()
    # The test's own sessions read what they can read.
    with database.connect_as_admin() as admin:
        admin.execute(f"ALTER ROLE {database.owner} IN DATABASE {database.name} RESET ALL".encode())
    assert list(pipeline.balances()) == [(1, 1, "ł…\t🛒")]
    assert pipeline.count("inventory_movements") == 1
    pipeline.check()


@pytest.mark.scenario("P8")
def test_a_claim_knows_whether_its_positions_are_where_it_left_them(pipeline: Pipeline) -> None:
    """Held until somebody else claims, or the server has gone back in time; a row that is gone is not held."""
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line(1)))
    consumer.apply()
    claims = list(consumer.claims.values())
    assert consumer.store.holds(claims)
    back = [replace(claim, next_offset=claim.next_offset + 1) for claim in claims]
    assert not consumer.store.holds(back)
    assert not consumer.store.holds([*claims, replace(claims[0], position_id=claims[0].position_id + 1)])
    pipeline.consumer("another")
    assert not consumer.store.holds(claims)


@pytest.mark.scenario("P16")
def test_no_more_connections_is_a_passing_failure(pipeline: Pipeline) -> None:
    """The server takes nobody: the batch is to be tried again, and then it is applied once."""
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line(1)))
    batch = consumer.batch()
    consumer.store.close()
    limit = "ALTER ROLE {} CONNECTION LIMIT {}"
    owner = pipeline.database.owner
    with pipeline.database.connect_as_admin() as admin:
        admin.execute(limit.format(owner, 0).encode())
        try:
            for _ in range(3):
                with pytest.raises(TransientError, match="too many connections"):
                    consumer.store.apply(batch, pipeline.registry)
                with pytest.raises(TransientError, match="too many connections"):
                    consumer.store.standing(batch)
        finally:
            admin.execute(limit.format(owner, -1).encode())
    assert consumer.store.standing(batch) is Standing.NOT_COMMITTED
    consumer.apply(batch)
    assert pipeline.balances() == {(1, 1, "A"): 1}
    pipeline.check()
