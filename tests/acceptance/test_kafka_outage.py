"""The source when the broker is away, comes back, or does not want us."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from ingest.domain.positions import TopicPartition
from ingest.errors import OperatorError, TransientError
from tests.support.kafka import Broker, ControlledBroker, create_topic
from tests.support.members import Member, Protocol
from tests.support.processes import free_ports
from tests.support.waiting import wait_until

TIMEOUT_S = 30

MakeMember = Callable[..., Member]


@pytest.mark.scenario("B1")
@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_broker_that_is_killed_and_comes_back(
    own_kafka: ControlledBroker, members: MakeMember, protocol: Protocol
) -> None:
    """Polling goes on through it, nothing is raised, no message is missing and none comes twice."""
    topic = create_topic(AdminClient({"bootstrap.servers": own_kafka.bootstrap_servers}), partitions=2)
    _produce(own_kafka, topic, 0, 20)
    member = members(own_kafka.bootstrap_servers, [topic], protocol=protocol)
    member.commit_on_revoked = True
    member.start()
    member.read_until(lambda: len(member.messages) == 20)
    member.commit()
    own_kafka.kill()
    for _ in range(10):
        assert member.poll(0.1) == []
    own_kafka.start()
    _produce(own_kafka, topic, 20, 40)
    member.read_until(lambda: len(member.messages) >= 40)
    assert member.poll(1) == []
    assert sorted(int(message.value or b"") for message in member.messages) == list(range(40))


@pytest.mark.scenario("B2")
def test_a_broker_that_is_not_there_yet(members: MakeMember) -> None:
    """A worker may start first: it waits, and leaves when it is told to, without waiting for anything."""
    (port,) = free_ports(1)
    member = members(f"127.0.0.1:{port}", ["events"]).start()
    assert [member.poll(0.2) for _ in range(5)] == [[]] * 5
    started = time.monotonic()
    member.source.close()
    assert time.monotonic() - started < 5


def test_leaving_while_the_broker_is_away(own_kafka: ControlledBroker, members: MakeMember) -> None:
    """A worker that is stopped during an outage ends in a moment."""
    topic, member = _reader(own_kafka, members)
    own_kafka.kill()
    member.poll(0.5)
    member.source.mirror({TopicPartition(topic, 0): 5})
    started = time.monotonic()
    member.source.close()
    assert time.monotonic() - started < 10


def test_what_was_read_is_confirmed_once_the_broker_answers(own_kafka: ControlledBroker, members: MakeMember) -> None:
    """A batch whose topics nobody tells about fails for a passing reason, and is the same batch after the outage."""
    topic, member = _reader(own_kafka, members)
    own_kafka.kill()
    confirm = member.source.confirm([TopicPartition(topic, 0)])
    with pytest.raises(TransientError, match=f"Kafka does not tell whether {topic} is what was claimed"):
        confirm()
    own_kafka.start()
    wait_until(lambda: _is_confirmed(member, confirm), TIMEOUT_S, "it is confirmed")


def _reader(own_kafka: ControlledBroker, members: MakeMember) -> tuple[str, Member]:
    """A topic, and a member that has read the five messages in it."""
    topic = create_topic(AdminClient({"bootstrap.servers": own_kafka.bootstrap_servers}))
    _produce(own_kafka, topic, 0, 5)
    member = members(own_kafka.bootstrap_servers, [topic]).start()
    member.read_until(lambda: len(member.messages) == 5)
    return topic, member


def _is_confirmed(member: Member, confirm: Callable[[], None]) -> bool:
    member.poll()
    try:
        confirm()
    except TransientError:
        return False
    return True


def test_settings_that_cannot_work_are_told(kafka: Broker, members: MakeMember) -> None:
    """A login where there is none: nothing recovers from that, and a person reads why."""
    options = {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"}
    options |= {"sasl.username": "shop", "sasl.password": "secret"}
    member = members(kafka.bootstrap_servers, ["events"], options=options).start()
    with pytest.raises(OperatorError, match=r"Kafka cannot be used with these settings: .*SASL"):
        member.read_until(lambda: False, timeout_s=TIMEOUT_S)


def test_tls_to_a_listener_without_it_is_waited_for_and_said(
    kafka: Broker, members: MakeMember, capsys: pytest.CaptureFixture[str]
) -> None:
    """It looks like a broker that goes away in the handshake, so nothing is given up; the log has the likely reason."""
    member = members(kafka.bootstrap_servers, ["events"], options={"security.protocol": "ssl"}).start()
    said = ""

    def told() -> bool:
        nonlocal said
        said += capsys.readouterr().out
        return "connecting to a PLAINTEXT broker listener?" in said

    member.read_until(told, timeout_s=TIMEOUT_S)
    assert "trouble with Kafka; waiting for it to recover" in said


def _produce(kafka: Broker, topic: str, first: int, end: int) -> None:
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "log_level": 0})
    for number in range(first, end):
        producer.produce(topic, str(number).encode(), partition=number % _partitions(producer, topic))
    assert producer.flush(TIMEOUT_S) == 0


def _partitions(producer: Producer, topic: str) -> int:
    return wait_until(lambda: len(producer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions), 30, topic)
