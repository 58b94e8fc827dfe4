"""A report that runs for hours: it holds VACUUM back while the same cells change again and again."""

import time
from statistics import median

import psycopg
import pytest

from ingest.postgres.overview import Overlook
from tests.support.pipeline import Consumer, Pipeline, line, movement
from tests.support.postgres import SEARCH_PATH
from tests.support.waiting import wait_until

ROUNDS = 150
SUM = b"SELECT quantity FROM inventory_balances"


def changes(pipeline: Pipeline, consumer: Consumer, name: str) -> float:
    """Changes one cell with so many batches; returns how long one of them takes."""
    took = []
    for number in range(ROUNDS):
        pipeline.send(movement(f"{name}{number}", line(1, "1")))
        began = time.perf_counter()
        consumer.apply()
        took.append(time.perf_counter() - began)
    return median(took)


@pytest.mark.scenario("P15")
def test_a_snapshot_that_is_held_while_a_hot_cell_changes(pipeline: Pipeline) -> None:
    """Batches go on at more than half their speed, the report's sums stand still, and both alarms' figures tell."""
    consumer = pipeline.consumer()
    overlook = Overlook(pipeline.access)
    free_s = changes(pipeline, consumer, "before")
    calm = overlook.overview()
    with pipeline.database.connect(autocommit=False, options=SEARCH_PATH) as report:
        report.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        assert report.execute(SUM).fetchall() == [(ROUNDS,)]
        held_s = changes(pipeline, consumer, "during")
        assert report.execute(SUM).fetchall() == [(ROUNDS,)]

        def told() -> bool:
            overview = overlook.overview()
            return overview.oldest_snapshot >= ROUNDS and overview.dead_rows >= calm.dead_rows + ROUNDS

        wait_until(told, 30, "the snapshot and the dead rows are told")
    assert held_s < 2 * free_s
    assert calm.oldest_snapshot < ROUNDS
    wait_until(lambda: overlook.overview().oldest_snapshot < ROUNDS, 30, "nothing is held back any more")
    assert pipeline.balances() == {(1, 1, "A"): 2 * ROUNDS}
    pipeline.check()
    overlook.close()
