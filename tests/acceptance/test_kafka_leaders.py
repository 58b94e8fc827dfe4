"""Three real brokers, and the leader of a partition dies under load: no event is missing, and none is applied twice."""

import contextlib
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import KafkaException

from ingest.kafka.bounds import BoundsReader
from ingest.kafka.options import admin_config, producer_config
from ingest.kafka.producer import EventProducer
from tests.support.kafka_cluster import KafkaCluster
from tests.support.postgres import Database
from tests.support.program import Program, run_tallystream, small_batches
from tests.support.steady_load import STOCK, steady_load
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(300)]

TOPIC = "events"
PARTITIONS = 3
MOVED_TIMEOUT_S = 60
# `make network` takes its time.
KILLS = 4 if os.environ.get("TALLYSTREAM_TEST_LONG") else 1
READ_TIMEOUT_S = 120


def has_another_leader(cluster: KafkaCluster, former: int) -> bool:
    """Whether somebody else leads partition 0 now."""
    return cluster.leaders(TOPIC).get(0, former) != former


@pytest.mark.scenario("B3")
def test_a_leader_that_is_killed_under_load(
    kafka_cluster: KafkaCluster, database: Database, program: Callable[..., Program], tmp_path: Path
) -> None:
    """kill -9 of the broker that leads partition 0, and of the next one that does; the worker never ends."""
    kafka_cluster.create_topic(TOPIC, PARTITIONS)
    env = {
        "TALLYSTREAM_POSTGRES_DSN": database.dsn,
        "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka_cluster.bootstrap_servers,
        "TALLYSTREAM_TOPICS": TOPIC,
        **small_batches(20),
    }
    file = tmp_path / "stock.toml"
    file.write_text(STOCK, encoding="utf-8")
    run_tallystream("register", "apply", str(file), env=env).check()

    def movements() -> int:
        with database.connect() as connection:
            row = connection.execute("SELECT count(*) FROM accum.stock_movements").fetchone()
            return int(row[0]) if row else 0

    def is_past(place: int) -> bool:
        return movements() > place

    with steady_load(EventProducer(producer_config(kafka_cluster.bootstrap_servers, {}), TOPIC), 0.005) as sent:
        worker = program("run", env=env)
        worker.wait_until(lambda: movements() > 50, MOVED_TIMEOUT_S, "the worker applies events")
        for _ in range(KILLS):
            victim = kafka_cluster.leaders(TOPIC)[0]
            kafka_cluster.kill(victim)
            wait_until(partial(has_another_leader, kafka_cluster, victim), MOVED_TIMEOUT_S, "a new leader")
            place = movements() + 50
            worker.wait_until(partial(is_past, place), MOVED_TIMEOUT_S, "events under the new leader")
            kafka_cluster.restart(victim)
            wait_until(lambda: len(kafka_cluster.in_sync(TOPIC)) == 3, MOVED_TIMEOUT_S, "all replicas are in sync")
    total = sent()
    worker.wait_until(lambda: movements() >= total, READ_TIMEOUT_S, "everything is applied")
    with database.connect() as connection:
        counted = connection.execute(
            "SELECT count(*), count(DISTINCT recorder), sum(quantity) FROM accum.stock_movements"
        ).fetchone()
        books = connection.execute("SELECT sum(applied)::int, sum(events)::int FROM accum._batches").fetchone()
    assert counted == (total, total, total)
    assert books == (total, total)
    assert worker.code is None
    assert worker.terminate() == 0
    run_tallystream("verify", env=env).check()


@pytest.mark.scenario("B3")
def test_ids_are_told_though_the_broker_that_told_them_is_gone(kafka_cluster: KafkaCluster) -> None:
    """Nothing is handed on without them; a client waits for the one broker that it takes for the controller."""
    kafka_cluster.create_topic(TOPIC, PARTITIONS)
    reader = BoundsReader(admin_config(kafka_cluster.bootstrap_servers, {}), timeout_s=10)
    (before,) = (answer.result(MOVED_TIMEOUT_S) for answer in reader.ask_topic_ids([TOPIC]).values())
    assert reader._ids is not None
    kafka_cluster.kill(reader._ids.list_topics(timeout=MOVED_TIMEOUT_S).controller_id)
    told: list[str] = []

    def is_told() -> bool:
        (answer,) = reader.ask_topic_ids([TOPIC]).values()
        with contextlib.suppress(KafkaException):
            told.append(answer.result(MOVED_TIMEOUT_S))
        return bool(told)

    wait_until(is_told, 30, "another broker tells")
    assert told == [before]
