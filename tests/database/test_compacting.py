"""`tallystream compact` against a real database: it drains, keeps house, and may be killed at any moment."""

import json
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import pytest

from ingest.domain.compacting import Record, Slice
from ingest.errors import DataError, TransientError
from ingest.postgres.compacting import DeltaStore, drain
from ingest.postgres.housekeeping import Housekeeper
from tests.support.events import INVENTORY
from tests.support.pipeline import Pipeline, access_to, line, movement
from tests.support.postgres import Database
from tests.support.program import Program, run_tallystream
from tests.support.proxy import COMMIT, Cut, Proxy
from tests.support.registers import Shop, element
from tests.support.sessions import SLICE_STEPS, holding, wait_for_waiters
from tests.support.waiting import wait_until

Pipelines = Callable[..., Pipeline]

HOT = replace(INVENTORY, high_write=True)
PENDING = "SELECT count(*) FROM {}_balance_cache_delta"
PARTITION = "SELECT _partition_name('stock', 'month', date_trunc('month', now() AT TIME ZONE 'Europe/London')::date)"
OTHERS = """
    SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tallystream' AND datname = current_database()
"""


def environment(database: Database, **settings: object) -> dict[str, str]:
    """The settings of a compactor that does not dawdle."""
    quick = {"compact_interval_ms": 50, "compact_min_age_ms": 0, **settings}
    named = {f"TALLYSTREAM_{name.upper()}": str(value) for name, value in quick.items()}
    return {"TALLYSTREAM_POSTGRES_DSN": database.dsn, **named}


@pytest.fixture
def hot(shop: Shop) -> Shop:
    """The register `stock` in high-write mode, with 30 folded deltas and 30 pending ones of the same cells."""
    shop.rows("SELECT register_alter('stock', high_write => true)")
    for recorder in "rs":
        shop.ask("SELECT _force_delta_merge()")
        shop.post([element(recorder, f"2026-01-0{1 + n % 3}", n % 10, "x", quantity=1) for n in range(30)])
    return shop


def test_once_drains_and_exits(hot: Shop) -> None:
    """All registers, deltas of a moment ago included; and what status says before and after."""
    hot.create("other", high_write=True)
    hot.post(element("r", "2026-01-01", 1, "x", quantity=1), "other")
    env = environment(hot.database, compact_min_age_ms=3_600_000, compact_slice_deltas=7)
    before = json.loads(run_tallystream("status", "--json", env=env).check().out)["pending_deltas"]
    told = run_tallystream("status", env={**env, "TALLYSTREAM_COMPACT_ALARM_MS": "1"}).check().out
    assert "reads of stock get slower: no `tallystream compact` keeps up" in told
    assert [(p["register"], p["deltas"], p["age_s"] < 600) for p in before] == [("other", 1, True), ("stock", 30, True)]
    run_tallystream("compact", "--once", env=env).check()
    assert hot.rows("SELECT register, deltas FROM _pending_deltas()") == [("other", 0), ("stock", 0)]
    told = run_tallystream("status", env={**env, "TALLYSTREAM_COMPACT_ALARM_MS": "1"}).check().out
    assert "pending deltas of stock: 0" in told
    assert "slower" not in told
    assert hot.ask("SELECT sum(quantity) FROM stock_balance_cache") == 60
    assert hot.problems() == []


def test_it_follows_writers_until_it_is_told_to_stop(hot: Shop, program: Callable[..., Program]) -> None:
    """What is posted while it runs is folded soon; SIGTERM ends it with exit code 0, and it says what it did."""
    compactor = program("compact", env=environment(hot.database))
    for number in range(3):
        wait_until(lambda: hot.ask(PENDING.format("stock")) == 0, 60, "everything is folded")
        hot.post(element(f"new {number}", "2026-01-01", 1, "x", quantity=1))
    compactor.wait_for_log(event="started")
    assert compactor.terminate() == 0
    assert compactor.logged(event="stopped")
    assert hot.problems() == []


@pytest.mark.scenario("C1")
def test_kill_9_loses_and_doubles_nothing(hot: Shop, program: Callable[..., Program]) -> None:
    """Wherever in a slice it is: the slice is pending again, reads are right all the time, the next one folds it."""
    total = {"quantity": 60, "amount": 0}
    for step, statement in SLICE_STEPS.items():
        with holding(hot.database, statement):
            compactor = program("compact", env=environment(hot.database))
            wait_for_waiters(hot.database)
            assert hot.ask("SELECT stock_balance()") == total, step
            compactor.kill()
            assert (hot.ask("SELECT stock_balance()"), hot.problems()) == (total, []), step
            # The server notices a dead client when it answers it, and rolls back.
            hot.rows(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE application_name = 'tallystream' AND datname = current_database()"
            )
            wait_until(lambda: hot.ask("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0, 60, "it rolls back")
        assert (hot.ask(PENDING.format("stock")), hot.problems()) == (30, []), step
    run_tallystream("compact", "--once", env=environment(hot.database)).check()
    assert (hot.ask(PENDING.format("stock")), hot.ask("SELECT stock_balance()"), hot.problems()) == (0, total, [])


@pytest.mark.parametrize("where", Cut)
@pytest.mark.parametrize("what", [b"_merge_slice", COMMIT], ids=["slice", "commit"])
def test_a_connection_that_breaks_during_a_slice(hot: Shop, what: bytes, where: Cut) -> None:
    """Whether the slice took place or not, nobody has to know: what is still pending is folded by the next one."""
    with Proxy(hot.database.dsn) as proxy:
        store = DeltaStore(access_to(hot.database, proxy.dsn))
        proxy.cut(what, where)
        with pytest.raises(TransientError):
            store.merge(Slice("stock", 20))
        wait_until(lambda: hot.ask(OTHERS) == 0, 60, "the server ends the session")
        folded = 20 if what == COMMIT and where is Cut.AFTER else 0
        assert (hot.ask(PENDING.format("stock")), hot.problems()) == (30 - folded, [])
        assert store.merge(Slice("stock", 100)).deltas == 30 - folded
        store.close()
    assert hot.ask("SELECT stock_balance()") == {"quantity": 60, "amount": 0}
    assert hot.problems() == []


@pytest.mark.scenario("C5")
def test_what_is_pending_is_drained_in_small_transactions(hot: Shop) -> None:
    """However much it is: no transaction is larger than a slice."""
    hot.post([element("many", "2026-01-07", n, "x", quantity=1) for n in range(100, 140)])
    assert drain(access_to(hot.database), "stock", most=7) == 70
    written = "SELECT max(rows) FROM (SELECT count(*) AS rows FROM stock_totals_day GROUP BY xmin::text) AS x"
    assert 0 < hot.ask(written) <= 7
    assert (hot.ask(PENDING.format("stock")), hot.problems()) == (0, [])


def test_a_slice_has_all_deltas_of_its_cells(hot: Shop) -> None:
    """So each of their rows is added to once, however many deltas of other cells came in between."""
    store = DeltaStore(access_to(hot.database))
    merged = store.merge(Slice("stock", 6))
    left = hot.rows("SELECT dim_hash, count(*)::int FROM stock_balance_cache_delta GROUP BY 1 ORDER BY 1")
    assert (merged.deltas, [deltas for _, deltas in left]) == (6, [3] * 8)
    assert merged.last_key is not None
    assert merged.last_key < left[0][0]
    store.close()


def test_a_cell_with_more_deltas_than_a_slice(shop: Shop) -> None:
    """Slices go on with the cell in which the one before ended."""
    shop.create("busy", high_write=True)
    for number in range(10):
        shop.post(element(f"r{number}", "2026-01-05", 1, "x", quantity=1), "busy")
    assert drain(access_to(shop.database), "busy", most=3) == 10
    assert (shop.ask(PENDING.format("busy")), shop.problems("busy")) == (0, [])


def test_the_table_of_deltas_does_not_grow_under_load(shop: Shop) -> None:
    """What is folded makes room for what comes, as long as somebody vacuums; and nobody is kept out meanwhile."""
    shop.create("busy", high_write=True)
    store = DeltaStore(access_to(shop.database))
    sizes = []
    for number in range(12):
        shop.post([element(f"r{number}", "2026-01-05", n, "x", quantity=1) for n in range(500)], "busy")
        assert store.merge(Slice("busy", 1000)).deltas == 500
        store.vacuum("busy")
        sizes.append(shop.ask("SELECT pg_relation_size('busy_balance_cache_delta')"))
    assert sizes[-1] <= 2 * sizes[0]
    with holding(shop.database, "LOCK TABLE busy_balance_cache_delta IN SHARE UPDATE EXCLUSIVE MODE"):
        store.vacuum("busy")
    store.close()


def test_locks_in_the_way_are_waited_out(hot: Shop) -> None:
    """A slice that times out is a passing failure, and is there to be folded afterwards."""
    store = DeltaStore(replace(access_to(hot.database), lock_timeout_ms=50))
    with holding(hot.database, SLICE_STEPS["balance"]), pytest.raises(TransientError, match="lock timeout"):
        store.merge(Slice("stock", 100))
    assert store.merge(Slice("stock", 100)).deltas == 30
    assert store.merge(Slice("stock", 100)).next_key is None
    store.close()
    assert hot.problems() == []


def test_a_sum_that_does_not_fit_holds_up_no_other(shop: Shop) -> None:
    """The compactor goes round the deltas of that cell; once the culprit is unposted all of them are folded."""
    shop.create("wide", resources=[{"name": "pieces", "type": "bigint"}], high_write=True)
    for recorder, pieces in (("a", 2**62), ("b", 2**62), ("c", 7)):
        shop.post([element(recorder, "2026-01-01", n, "x", pieces=pieces if n == 5 else 1) for n in range(9)], "wide")
    env = environment(shop.database, compact_slice_deltas=5)
    done = run_tallystream("compact", "--once", env=env).check()
    assert "a delta cannot be folded" in done.err
    assert shop.rows("SELECT warehouse FROM wide_balance_cache_delta") == [(5,), (5,)]
    assert shop.refusal("SELECT _force_delta_merge()")[0] == "TS023"
    assert shop.refusal("SELECT register_alter('wide', high_write => false)")[0] == "TS023"
    shop.unpost("b", "wide")
    for _ in range(2):
        run_tallystream("compact", "--once", env=env).check()
    assert shop.ask("SELECT count(*) FROM wide_balance_cache_delta") == 0
    assert shop.ask("SELECT wide_balance('{\"warehouse\": 5}')") == {"pieces": 2**62 + 7}
    assert shop.problems("wide") == []


def test_partitions_are_made_ahead_for_all_registers(shop: Shop) -> None:
    """Also beside one for which that is refused."""
    shop.create("daily", partition_by="day")
    # Somebody's table has the name of a partition that is needed.
    shop.rows(f"CREATE TABLE {shop.ask(PARTITION)} ()")
    housekeeper = Housekeeper(access_to(shop.database))
    shop.create("another", partition_by="year")
    with pytest.raises(DataError, match="no partition"):
        housekeeper.create_partitions(2)
    assert shop.ask("SELECT count(*) FROM register_partitions('daily')") == 3
    shop.rows(f"DROP TABLE {shop.ask(PARTITION)}")
    shop.rows("SELECT register_drop('stock', true)")
    assert housekeeper.create_partitions(2) == 0
    assert housekeeper.create_partitions(4) == 2


def test_old_batches_are_added_up(pipelines: Pipelines) -> None:
    """Each position keeps one row for what is old: no count and no offset is lost, and young batches stay single."""
    pipeline = pipelines(partitions=2)
    consumer = pipeline.consumer()
    for number in range(6):
        pipeline.send(movement(f"r{number}", line(1)), movement(f"r{number}", line(1)), partition=number % 2)
        consumer.apply()
    counts = (
        "SELECT position_id, sum(events), sum(applied), sum(duplicates), sum(movements) FROM _batches"
        " GROUP BY 1 ORDER BY 1"
    )
    before = pipeline.rows(counts)
    with pipeline.database.connect(options="-c search_path=accum") as owner:
        owner.execute("UPDATE _batches SET committed_at = committed_at - interval '40 days' WHERE batch_id <= 4")
    housekeeper = Housekeeper(access_to(pipeline.database))
    assert [housekeeper.roll_up_batches(30) for _ in range(2)] == [2, 0]
    assert pipeline.rows(counts) == before
    assert pipeline.count("_batches") == 4
    pipeline.check()
    assert housekeeper.roll_up_batches(0) == 2
    assert (pipeline.rows(counts), pipeline.count("_batches")) == (before, 2)
    pipeline.check()


def refused(pipelines: Pipelines, count: int = 3) -> Pipeline:
    """A pipeline with so many dead letters."""
    pipeline = pipelines()
    headers = (("trace", b"\x00\xff"), ("empty", None))
    pipeline.send(*[b"\xff%d" % n for n in range(count)], key=b"k\x00", headers=headers)
    pipeline.consumer().apply()
    return pipeline


def test_settled_dead_letters_are_removed_and_waiting_ones_stay(pipelines: Pipelines) -> None:
    """After the retention; those that are still to be relayed stay as well."""
    pipeline = refused(pipelines)
    with pipeline.database.connect(options="-c search_path=accum") as owner:
        owner.execute("UPDATE _dead_letters SET state = 'dropped', settled_at = now() - interval '9 days' WHERE id > 1")
        owner.execute("UPDATE _dead_letters SET relayed_at = now() WHERE id > 2")
    housekeeper = Housekeeper(access_to(pipeline.database))
    assert housekeeper.forget_dead_letters(10, relayed_only=False) == 0
    assert housekeeper.forget_dead_letters(8, relayed_only=True) == 1
    assert housekeeper.forget_dead_letters(8, relayed_only=False) == 1
    assert pipeline.rows("SELECT id, state FROM _dead_letters") == [(1, "waiting")]


def test_dead_letters_are_relayed_at_least_once(pipelines: Pipelines) -> None:
    """In their order and byte for byte; what could not be delivered comes again, what was delivered does not."""
    pipeline = refused(pipelines)
    housekeeper = Housekeeper(access_to(pipeline.database))
    delivered: list[Record] = []

    def fails(_records: object) -> None:
        message = "no broker"
        raise TransientError(message)

    with pytest.raises(TransientError):
        housekeeper.relay(fails)
    assert [housekeeper.relay(delivered.extend) for _ in range(2)] == [3, 0]
    assert [record.value for record in delivered] == [b"\xff0", b"\xff1", b"\xff2"]
    assert delivered[0].headers[:2] == (("trace", b"\x00\xff"), ("empty", None))
    assert (delivered[0].key, dict(delivered[0].headers)["__connect.errors.topic"]) == (b"k\x00", b"events")


def test_a_stream_into_a_hot_register(pipelines: Pipelines) -> None:
    """Batches append, a compactor folds between them, documents are replaced, and everything agrees."""
    pipeline = pipelines([HOT])
    consumer = pipeline.consumer()
    store = DeltaStore(access_to(pipeline.database))
    for number in range(6):
        pipeline.send(*[movement(f"r{number}", line(n % 3, "2"), id=f"{n}") for n in range(9)])
        pipeline.send(movement("all", line(7, "1"), id=f"{number}"))
        consumer.apply()
        pipeline.check()
        assert store.merge(Slice("inventory", 3)).deltas == 3
        pipeline.check()
    assert pipeline.balances() == {**{(1, n, "A"): Decimal(36) for n in range(3)}, (1, 7, "A"): Decimal(6)}
    store.close()
