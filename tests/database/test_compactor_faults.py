"""What the compactor meets at its work: slices that take too long, and deltas that are committed late."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import pytest
from psycopg.types.json import Jsonb

from ingest.compactor import Compactor, CompactorLimits
from ingest.postgres.compacting import DeltaStore
from ingest.postgres.housekeeping import Housekeeper
from ingest.wiring.parts import SteadyClock
from tests.support.pipeline import Pipeline, access_to
from tests.support.registers import Shop, element
from tests.support.sessions import WAIT_S, Running
from tests.support.waiting import wait_until

PENDING = "SELECT count(*) FROM stock_balance_cache_delta"
LIMITS = CompactorLimits(
    interval_ms=5, min_age_ms=0, slice_deltas=64, retry_initial_ms=5, retry_max_ms=20, report_every_ms=1_000_000
)

# Each deleted delta takes a while, so how long a slice takes depends on how large it is.
SLOWLY = """
    CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.02); RETURN old; END $$;
    CREATE TRIGGER slowly BEFORE DELETE ON stock_balance_cache_delta FOR EACH ROW EXECUTE FUNCTION slowly();
"""


@pytest.fixture
def hot(shop: Shop) -> Shop:
    """The register `stock` in high-write mode."""
    shop.rows("SELECT register_alter('stock', high_write => true)")
    return shop


def lines(recorder: str, cells: Sequence[int]) -> list[dict[str, object]]:
    """One piece in each of these cells."""
    return [element(recorder, "2026-01-05", cell, "x", quantity=1) for cell in cells]


@contextmanager
def compacting(shop: Shop, statement_timeout_ms: int = 30_000) -> Iterator[Compactor]:
    """A compactor in a thread, until the block ends."""
    access = replace(access_to(shop.database), statement_timeout_ms=statement_timeout_ms)
    compactor = Compactor(DeltaStore(access), [], SteadyClock(), LIMITS)
    running = Running(compactor.run)
    try:
        yield compactor
    finally:
        compactor.stop()
        running.result()


@pytest.mark.scenario("C8")
def test_slices_that_take_too_long_are_made_smaller(hot: Shop) -> None:
    """A slice under a time-out is rolled back whole and tried again smaller: all of it is folded, once."""
    hot.post(lines("r", range(60)))
    with hot.database.connect(options="-c search_path=accum") as owner:
        owner.execute(SLOWLY)
    assert hot.ask(PENDING) == 60
    with compacting(hot, statement_timeout_ms=600) as compactor:
        wait_until(lambda: hot.ask(PENDING) == 0, WAIT_S, "all deltas are folded")
    assert compactor.tally.retries > 0
    assert compactor.tally.deltas == 60
    assert hot.ask("SELECT sum(quantity) FROM stock_balance_cache") == 60
    assert hot.problems() == []


@pytest.mark.scenario("C9")
def test_a_delta_that_is_committed_late_is_folded(hot: Shop) -> None:
    """What was written before others and committed after them lies behind the compactor, and is not left there."""
    hot.post(lines("first", range(5)))  # makes the partition, for which others would wait
    with compacting(hot) as compactor, hot.connect(autocommit=False) as late:
        late.execute("SELECT register_post('stock', %s)", [Jsonb(lines("late", range(5)))])
        hot.post(lines("early", range(5)))
        wait_until(lambda: compactor.tally.deltas == 10, WAIT_S, "the other deltas are folded")
        assert hot.ask(PENDING) == 0
        late.commit()
        wait_until(lambda: compactor.tally.deltas == 15, WAIT_S, "the late deltas are folded")
    assert hot.ask(PENDING) == 0
    assert hot.ask("SELECT sum(quantity) FROM stock_balance_cache") == 15
    assert hot.problems() == []


def test_a_dead_letter_that_waits_is_never_forgotten(pipelines: Callable[..., Pipeline]) -> None:
    """However long it has waited: only what somebody has settled is removed."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.send(b"nonsense")
    consumer.apply()
    with pipeline.database.connect() as owner:
        owner.execute("UPDATE accum._dead_letters SET created_at = created_at - interval '100 years'")
    assert Housekeeper(pipeline.access).forget_dead_letters(1, relayed_only=False) == 0
    assert pipeline.count("_dead_letters") == 1
