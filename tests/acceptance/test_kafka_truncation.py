"""A real broker whose log has become shorter than what was applied."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from confluent_kafka.admin import AdminClient

from tests.acceptance.test_commands import INVENTORY, event
from tests.support import local_kafka
from tests.support.kafka import create_topic
from tests.support.lacking import skip_for
from tests.support.local_kafka import LocalKafka
from tests.support.stream import Stream

pytestmark = [pytest.mark.slow, pytest.mark.kafka]

EVENTS = 10


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


def applied(stream: Stream) -> int:
    """Over all that the partition was, before and after."""
    with stream.database.connect() as connection:
        row = connection.execute("SELECT coalesce(sum(applied), 0)::int FROM accum._batches").fetchone()
    return int(row[0]) if row else 0
