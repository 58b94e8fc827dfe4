"""The source against librdkafka's own mock cluster, which the demo uses: the same class, the same promises.

What the simulation cannot show (retention, transactions, topics that come and go) is in `test_kafka_source.py`.
"""

import secrets
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka import Producer

from ingest.demo.embedded import Broker
from ingest.domain.positions import TopicPartition
from tests.support.members import Member, Positions, Protocol, read_all_until

TIMEOUT_S = 20
TOPIC = "shop"

MakeMember = Callable[..., Member]


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Both rebalance protocols."""
    chosen: Protocol = request.param
    return chosen


@pytest.fixture
def servers() -> Iterator[str]:
    """The address of the demo's broker, with a topic of three partitions."""
    with Broker() as broker:
        broker.create_topic(TOPIC, 3)
        yield broker.address


def test_reading_begins_at_the_claims_and_skips_what_is_not_claimed(
    servers: str, members: MakeMember, protocol: Protocol
) -> None:
    """As with a real broker, bounds and topic id included."""
    _produce(servers, 30)
    positions = Positions({TopicPartition(TOPIC, 0): 4})
    member = members(servers, [TOPIC], positions, protocol=protocol)
    member.refuse.add(TopicPartition(TOPIC, 1))
    member.start()
    member.read_until(lambda: len(member.messages) == 16)
    assert member.poll(0.3) == []
    assert [member.offsets(p) for p in range(3)] == [list(range(4, 10)), [], list(range(10))]
    assert [(b.low, b.high, b.topic_id is not None) for b in member.offered] == [(0, 10, True)] * 3


def test_two_members_share_and_one_that_leaves_is_replaced(
    servers: str, members: MakeMember, protocol: Protocol
) -> None:
    """Partitions move with their positions; every message is read once."""
    group, positions = secrets.token_hex(4), Positions()
    _produce(servers, 30)
    first = members(servers, [TOPIC], positions, group=group, protocol=protocol).start()
    first.commit_on_revoked = True
    first.read_until(lambda: len(first.messages) == 30)
    second = members(servers, [TOPIC], positions, group=group, protocol=protocol).start()
    second.commit_on_revoked = True
    read_all_until([first, second], lambda: second.claims and len(first.claims) + len(second.claims) == 3)
    _produce(servers, 30)
    read_all_until([first, second], lambda: len(first.messages) + len(second.messages) == 60)
    first.commit()
    first.source.close()
    second.read_until(lambda: len(second.claims) == 3)
    _produce(servers, 30)
    second.read_until(lambda: len(first.messages) + len(second.messages) == 90)
    assert [sorted(first.offsets(p) + second.offsets(p)) for p in range(3)] == [list(range(30))] * 3


def test_failures_and_pauses_lose_nothing(servers: str, members: MakeMember, protocol: Protocol) -> None:
    """A failure to claim comes out of poll, the group is joined anew, reading is paused and goes on."""
    _produce(servers, 3000)
    member = members(servers, [TOPIC], protocol=protocol)
    member.fail_on_assigned = RuntimeError("PostgreSQL is away")
    member.start()
    with pytest.raises(RuntimeError, match="PostgreSQL is away"):
        member.read_until(lambda: member.messages)
    member.fail_on_assigned = None
    member.source.rejoin()
    member.read_until(lambda: member.messages)
    member.source.pause()
    assert [member.poll(0.05) for _ in range(3)] == [[]] * 3
    member.source.resume()
    member.read_until(lambda: len(member.messages) >= 3000)
    assert [member.offsets(p) for p in range(3)] == [list(range(1000))] * 3


def test_a_cluster_without_a_controller_has_no_topic_ids(members: MakeMember) -> None:
    """It cannot be asked for them; that is no reason to wait, and the rest is told."""
    owner = Producer({"bootstrap.servers": "127.0.0.1:1", "test.mock.num.brokers": 1, "log_level": 0})
    brokers = owner.list_topics(TOPIC, timeout=TIMEOUT_S).brokers.values()
    servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    _produce(servers, 8)
    member = members(servers, [TOPIC]).start()
    member.read_until(lambda: len(member.messages) == 8)
    assert {(b.topic_id, b.low) for b in member.offered} == {(None, 0)}
    del owner


def _produce(servers: str, count: int) -> None:
    producer = Producer({"bootstrap.servers": servers, "log_level": 0})
    partitions = len(producer.list_topics(TOPIC, timeout=TIMEOUT_S).topics[TOPIC].partitions)
    for number in range(count):
        producer.produce(TOPIC, str(number).encode(), partition=number % partitions)
    assert producer.flush(TIMEOUT_S) == 0
