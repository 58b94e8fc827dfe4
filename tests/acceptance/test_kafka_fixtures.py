"""The Kafka fixtures keep what they promise: the other tests build on it."""

from collections.abc import Callable

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.kafka import Broker, ControlledBroker, create_topic

TIMEOUT_S = 60


def test_topics_are_new_and_have_their_partitions(kafka: Broker, kafka_topic: Callable[..., str]) -> None:
    """A topic is there, with as many partitions as asked for, and nothing in it."""
    first, second = kafka_topic(partitions=3), kafka_topic()
    topics = AdminClient({"bootstrap.servers": kafka.bootstrap_servers}).list_topics(timeout=TIMEOUT_S).topics
    assert (len(topics[first].partitions), len(topics[second].partitions)) == (3, 1)
    assert _records(kafka, second) == []


def test_a_killed_broker_comes_back_with_what_was_acknowledged(own_kafka: ControlledBroker) -> None:
    """kill -9 and a start: the same address, the same topic, the same records."""
    topic = create_topic(AdminClient({"bootstrap.servers": own_kafka.bootstrap_servers}))
    producer = Producer({"bootstrap.servers": own_kafka.bootstrap_servers, "acks": "all"})
    producer.produce(topic, b"one")
    assert producer.flush(TIMEOUT_S) == 0
    own_kafka.kill()
    own_kafka.start()
    producer.produce(topic, b"two")
    assert producer.flush(TIMEOUT_S) == 0
    assert _records(own_kafka, topic) == [b"one", b"two"]


def _records(kafka: Broker, topic: str) -> list[bytes | None]:
    """Everything in partition 0."""
    consumer = Consumer(
        {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "reader", "auto.offset.reset": "earliest"}
    )
    try:
        _, high = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=TIMEOUT_S)
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(high, TIMEOUT_S)] if high else []
    finally:
        consumer.close()
