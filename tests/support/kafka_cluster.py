"""Three brokers of our own, each broker and controller: a leader can be killed, and another one takes over."""

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from tests.support import local_kafka
from tests.support.lacking import skip_for
from tests.support.local_kafka import LocalKafka, Membership, new_uuid
from tests.support.processes import free_ports
from tests.support.waiting import wait_until

BROKERS = 3
READY_TIMEOUT_S = 120
REQUEST_TIMEOUT_S = 5


class KafkaCluster:
    """Three brokers; topics have a replica on each, and two of them are enough."""

    def __init__(self) -> None:
        ports = free_ports(2 * BROKERS)
        self._ports, controllers = ports[:BROKERS], ports[BROKERS:]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, 1))
        uuid = new_uuid()
        self._brokers = {
            node: LocalKafka(port=port, member=Membership(node, controller, voters, uuid))
            for node, (port, controller) in enumerate(zip(self._ports, controllers, strict=True), 1)
        }

    @property
    def bootstrap_servers(self) -> str:
        return ",".join(f"127.0.0.1:{port}" for port in self._ports)

    @property
    def admin(self) -> AdminClient:
        options: dict[str, Any] = {"bootstrap.servers": self.bootstrap_servers, "log_level": 0}
        return AdminClient(options)

    def start(self) -> None:
        """Returns when all of them are there and one is asked."""
        with ThreadPoolExecutor() as executor:
            list(executor.map(LocalKafka.launch, self._brokers.values()))
        admin = self.admin

        def complete() -> bool:
            with contextlib.suppress(KafkaException, TimeoutError):
                cluster = admin.describe_cluster(request_timeout=REQUEST_TIMEOUT_S).result(REQUEST_TIMEOUT_S + 1)
                return len(cluster.nodes) == BROKERS
            return False

        wait_until(complete, READY_TIMEOUT_S, "three brokers answer")

    def create_topic(self, name: str, partitions: int) -> None:
        """With three replicas, and a leader for each partition."""
        topic = NewTopic(name, num_partitions=partitions, replication_factor=BROKERS)
        admin = self.admin
        for future in admin.create_topics([topic], request_timeout=READY_TIMEOUT_S).values():
            future.result(READY_TIMEOUT_S)
        wait_until(lambda: len(self.leaders(name)) == partitions, READY_TIMEOUT_S, "every partition has a leader")

    def leaders(self, topic: str) -> dict[int, int]:
        """The node that leads each partition, where one does."""
        with contextlib.suppress(KafkaException):
            found = self.admin.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic].partitions
            return {number: part.leader for number, part in found.items() if part.leader > 0}
        return {}

    def in_sync(self, topic: str) -> set[int]:
        """The nodes that have all of every partition."""
        with contextlib.suppress(KafkaException):
            found = self.admin.list_topics(topic, timeout=REQUEST_TIMEOUT_S).topics[topic].partitions
            return set.intersection(*(set(part.isrs) for part in found.values()))
        return set()

    def kill(self, node: int) -> None:
        """kill -9 of one broker."""
        self._brokers[node].kill()

    def restart(self, node: int) -> None:
        """And it comes back."""
        self._brokers[node].launch()

    def close(self) -> None:
        for broker in self._brokers.values():
            broker.close()


@pytest.fixture
def kafka_cluster() -> Iterator[KafkaCluster]:
    """Three running brokers that belong to the test."""
    if lack := local_kafka.missing():
        skip_for(f"no three Kafka brokers: {lack}")
    cluster = KafkaCluster()
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()
