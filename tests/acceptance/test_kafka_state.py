"""What the source knows without asking: whether a broker answers, the group, and where logs end for a reader."""

from collections.abc import Callable

import pytest
from confluent_kafka import Producer

from ingest.domain.positions import TopicPartition
from ingest.domain.progress import LogEnd
from tests.support.kafka import Broker
from tests.support.members import Member, Protocol
from tests.support.processes import free_ports

TIMEOUT_S = 30

MakeMember = Callable[..., Member]


@pytest.fixture
def producer(kafka: Broker, kafka_topic: Callable[..., str]) -> tuple[Producer, str]:
    """A transactional producer, and a topic."""
    topic = kafka_topic()
    made = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    made.init_transactions(TIMEOUT_S)
    return made, topic


def send(producer: Producer, topic: str, count: int) -> None:
    """Records of the open transaction, in the log."""
    for number in range(count):
        producer.produce(topic, b"%d" % number, partition=0)
    assert producer.flush(TIMEOUT_S) == 0


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
@pytest.mark.scenario("B16", "B17")
def test_where_a_log_ends(
    kafka: Broker, producer: tuple[Producer, str], members: MakeMember, protocol: Protocol
) -> None:
    """Markers of transactions are nothing to wait for; what an open transaction holds back is, and is told."""
    sender, topic = producer
    where = TopicPartition(topic, 0)
    sender.begin_transaction()
    send(sender, topic, 5)
    sender.commit_transaction(TIMEOUT_S)
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol).start()
    member.read_until(lambda: len(member.messages) == 5)
    # The log ends at 6, behind the marker; a reader that has the five records has everything.
    member.read_until(lambda: member.source.state().ends.get(where) == LogEnd(5))
    assert member.source.state().connected
    assert member.source.state().joined
    assert member.source.state().unclaimed == frozenset()
    sender.begin_transaction()
    send(sender, topic, 3)
    member.read_until(lambda: member.source.state().ends.get(where) == LogEnd(9, 3))
    sender.abort_transaction(TIMEOUT_S)
    member.read_until(lambda: member.source.state().ends.get(where) == LogEnd(5))
    assert len(member.messages) == 5


def test_what_nobody_claims_is_told(kafka: Broker, kafka_topic: Callable[..., str], members: MakeMember) -> None:
    """A partition that the group gave and that may not be read is neither read nor forgotten."""
    topic = kafka_topic(partitions=2)
    member = members(kafka.bootstrap_servers, [topic])
    member.refuse = {TopicPartition(topic, 1)}
    member.start()
    member.read_until(lambda: member.source.state().unclaimed == {TopicPartition(topic, 1)})
    assert set(member.source.state().ends) <= {TopicPartition(topic, 0)}


def test_a_broker_that_is_not_there(members: MakeMember) -> None:
    """Nothing is connected, nothing is joined."""
    (port,) = free_ports(1)
    member = members(f"127.0.0.1:{port}", ["events"]).start()
    for _ in range(30):
        member.poll(0.1)
        assert not member.source.state().connected
        assert not member.source.state().joined
