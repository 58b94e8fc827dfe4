"""A real broker whose log has become shorter than what was applied, or another one under the same name."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.acceptance.test_commands import INVENTORY, event
from tests.support import local_kafka
from tests.support.kafka import Broker, create_topic
from tests.support.lacking import skip_for
from tests.support.local_kafka import LocalKafka
from tests.support.stream import Stream
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

EVENTS = 10
TIMEOUT_S = 30


@pytest.fixture
def broker() -> Iterator[LocalKafka]:
    """One whose files are at hand."""
    if lack := local_kafka.missing():
        skip_for(f"a broker whose files can be cut needs {lack}")
    made = LocalKafka()
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.mark.scenario("B12")
def test_a_log_that_lost_its_tail(broker: LocalKafka, stream: Stream) -> None:
    """The partition stops and says which offsets are gone; a person decides, and new events at those offsets count."""
    topic = create_topic(AdminClient({"bootstrap.servers": broker.bootstrap_servers}))
    one = replace(stream, kafka=broker, topic=topic, workers=[])
    one.declare(INVENTORY)
    worker = one.worker()
    for number in range(EVENTS):
        one.produce_keyed([(f"receipt:{number}".encode(), event(number))])
    worker.wait_until(lambda: one.read() == EVENTS, what="everything is applied")
    broker.kill()
    broker.lose_tail(topic)
    broker.start()
    said = str(worker.wait_for_log(event="partition stopped")["error"])
    left = int(said.split("ends at offset ")[1].split(",", maxsplit=1)[0])
    assert 0 < left < EVENTS
    assert f"the offsets {left}..{EVENTS - 1} were applied and are not in the log any more" in said
    assert one.read() == EVENTS
    one.run("positions", "set", topic, "0", "--to", "end", "--reason", "the log lost them", "--yes").check()
    one.produce_keyed([(f"receipt:{EVENTS}".encode(), event(EVENTS))])
    worker.wait_until(lambda: applied(one) == EVENTS + 1, what="the new event is applied")
    one.run("verify").check()
    one.stop()


@pytest.mark.scenario("B13")
def test_a_topic_that_is_created_anew_under_a_running_worker(kafka: Broker, stream: Stream) -> None:
    """Its events have the offsets that come next, and none of them is applied; the partition stops and says why."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    one = replace(stream, topic=create_topic(admin), workers=[])
    one.declare(INVENTORY)
    worker = one.worker()
    one.produce_keyed([(f"receipt:{number}".encode(), event(number)) for number in range(EVENTS)])
    worker.wait_until(lambda: one.read() == EVENTS, what="everything is applied")
    admin.delete_topics([one.topic])[one.topic].result()
    wait_until(lambda: _created(admin, one.topic), TIMEOUT_S, "the topic is created again")
    one.produce_keyed([(f"another:{number}".encode(), event(number + EVENTS)) for number in range(3 * EVENTS)])
    said = str(worker.wait_for_log(event="partition stopped")["error"])
    assert "its topic id was" in said
    assert applied(one) == EVENTS
    one.run("verify").check()
    one.stop()


def _created(admin: AdminClient, topic: str) -> bool:
    try:
        admin.create_topics([NewTopic(topic, 1)])[topic].result()
    except KafkaException:
        return False
    return True


def applied(stream: Stream) -> int:
    """Over all that the partition was, before and after."""
    with stream.database.connect() as connection:
        row = connection.execute("SELECT coalesce(sum(applied), 0)::int FROM accum._batches").fetchone()
    return int(row[0]) if row else 0
