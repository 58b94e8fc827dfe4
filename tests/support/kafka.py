"""Real Apache Kafka for tests: one broker per run, one fresh topic per test.

The broker is, in this order: the one that TALLYSTREAM_TEST_KAFKA_BOOTSTRAP_SERVERS names; a container where Docker
answers; else one from Kafka's jars, with Java and Maven. Without any of them the tests that need a broker are skipped
with that reason; under CI they fail.

    def test_something(kafka, kafka_topic):
        topic = kafka_topic(partitions=4)
        ... kafka.bootstrap_servers ...

`own_kafka` is a broker that the test may stop, kill and start again. Tests that use one of these are marked `kafka`.
"""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support import local_kafka
from tests.support.docker import container, docker_answers
from tests.support.lacking import skip_for
from tests.support.local_kafka import LocalKafka
from tests.support.processes import free_ports
from tests.support.versions import KAFKA, KAFKA_IMAGE
from tests.support.waiting import wait_until

ADDRESS_VARIABLE = "TALLYSTREAM_TEST_KAFKA_BOOTSTRAP_SERVERS"
REQUEST_TIMEOUT_S = 60
FIXTURES = {"kafka", "kafka_topic", "own_kafka"}


class Broker(Protocol):
    """Something that speaks Kafka's protocol at an address."""

    @property
    def bootstrap_servers(self) -> str: ...


class ControlledBroker(Broker, Protocol):
    """A broker that a test may do things to. It comes back at the same address with the same data."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def restart(self) -> None: ...


class GivenKafka:
    """Somebody else's broker."""

    def __init__(self, bootstrap_servers: str) -> None:
        self.bootstrap_servers = bootstrap_servers


class DockerKafka:
    """A broker in a container, on one port that stays its own."""

    def __init__(self) -> None:
        self._port, inside = free_ports(2)
        address = f"PLAINTEXT://127.0.0.1:{self._port}"
        names = dict(
            pair.split("=", 1) for pair in local_kafka.PROPERTIES.splitlines() if not pair.startswith("log.dirs")
        )
        names["listeners"] = f"PLAINTEXT://0.0.0.0:{self._port},CONTROLLER://127.0.0.1:{inside}"
        names["advertised.listeners"] = address
        names["controller.quorum.bootstrap.servers"] = f"127.0.0.1:{inside}"
        env = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in names.items()}
        self._container = container(KAFKA_IMAGE, self._port, self._port, env)
        self._created = False

    @property
    def bootstrap_servers(self) -> str:
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        if self._created:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._created = True
        local_kafka.wait_until_it_answers(self.bootstrap_servers)

    def stop(self) -> None:
        self._container.get_wrapped_container().stop()

    def kill(self) -> None:
        self._container.get_wrapped_container().kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    def close(self) -> None:
        self._container.stop()


def describe() -> str:
    """For the suite's header: which broker the tests will use."""
    if address := os.environ.get(ADDRESS_VARIABLE):
        return f"the broker at {address}"
    if docker_answers():
        return f"{KAFKA_IMAGE} in Docker"
    if lack := local_kafka.missing():
        return f"none ({lack})"
    return f"{KAFKA} from its jars, Java {local_kafka.java_version()}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if isinstance(item, pytest.Function) and FIXTURES & set(item.fixturenames):
            item.add_marker("kafka")


@pytest.fixture(scope="session")
def kafka() -> Iterator[Broker]:
    """The session's broker, its coordinators awake."""
    if address := os.environ.get(ADDRESS_VARIABLE):
        yield GivenKafka(address)
        return
    with running_broker() as broker:
        _wake_coordinators(broker)
        yield broker


@pytest.fixture
def kafka_topic(kafka: Broker) -> Iterator[Callable[..., str]]:
    """Makes topics: `kafka_topic(partitions=4, config={...})` is the name of a new one."""
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    created: list[str] = []

    def create(partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
        created.append(create_topic(admin, partitions, config))
        return created[-1]

    yield create
    if isinstance(kafka, GivenKafka) and created:
        for future in admin.delete_topics(created, request_timeout=REQUEST_TIMEOUT_S).values():
            future.result(REQUEST_TIMEOUT_S)


@pytest.fixture
def own_kafka() -> Iterator[ControlledBroker]:
    """A running broker that belongs to the test: to stop, to kill -9, to start again."""
    with running_broker() as broker:
        yield broker


def create_topic(admin: AdminClient, partitions: int = 1, config: Mapping[str, str] | None = None) -> str:
    """A new topic with a name of its own, ready for use."""
    name = f"events-{secrets.token_hex(6)}"
    topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(config or {}))
    for future in admin.create_topics([topic], request_timeout=REQUEST_TIMEOUT_S).values():
        future.result(REQUEST_TIMEOUT_S)

    def complete() -> bool:
        found = admin.list_topics(name, timeout=REQUEST_TIMEOUT_S).topics[name]
        return found.error is None and len(found.partitions) == partitions

    wait_until(complete, REQUEST_TIMEOUT_S, f"topic {name} has {partitions} partitions")
    return name


@contextlib.contextmanager
def running_broker(flags: Sequence[str] = local_kafka.BROKER_FLAGS) -> Iterator[ControlledBroker]:
    """A broker of one's own, for as long as the context lasts; in a container the image has its own flags for Java."""
    broker = _choose(flags)
    try:
        broker.start()
        yield broker
    finally:
        broker.close()


def _choose(flags: Sequence[str]) -> LocalKafka | DockerKafka:
    if docker_answers():
        return DockerKafka()
    if lack := local_kafka.missing():
        skip_for(f"no real Kafka broker: {ADDRESS_VARIABLE} is not set, Docker does not answer, and {lack}")
    return LocalKafka(flags=flags)


def _wake_coordinators(broker: Broker) -> None:
    """The first group of a fresh broker takes 3 s and the first transaction 1 s; no test shall wait for that."""
    admin = AdminClient({"bootstrap.servers": broker.bootstrap_servers})
    topic = create_topic(admin)
    client: dict[str, Any] = {"bootstrap.servers": broker.bootstrap_servers, "log_level": 0}
    with contextlib.closing(Consumer({**client, "group.id": topic, "enable.auto.commit": False})) as consumer:
        consumer.subscribe([topic])
        wait_until(lambda: consumer.poll(0.1) or consumer.assignment(), REQUEST_TIMEOUT_S, "the first group")
        consumer.commit(offsets=[TopicPartition(topic, 0, 0)], asynchronous=False)
    producer = Producer({**client, "transactional.id": topic})
    with contextlib.suppress(KafkaException):
        producer.init_transactions(REQUEST_TIMEOUT_S)
