"""librdkafka's options: exactly-once cannot be switched off, harmful ones are refused, harmless ones exist."""

import pytest
from confluent_kafka import Consumer, KafkaException, Producer

from ingest.errors import SettingsError
from ingest.kafka import options
from ingest.kafka.options import admin_config, check_bootstrap_servers, check_options, consumer_config, producer_config

REFUSED = [
    ("plugin.library.paths", "x", "it loads code into the process"),
    ("sasl.kerberos.kinit.cmd", "x", "it runs a command"),
    ("ssl.engine.location", "x", "it loads code into the process"),
    ("ssl.providers", "x", "it loads code into the process"),
    ("enable.ssl.certificate.verification", "false", "without verification anybody can pose as the broker"),
    ("ssl.endpoint.identification.algorithm", "none", "any certificate of the same authority could pose"),
    ("test.mock.num.brokers", "1", "it replaces the brokers by a simulation"),
    ("enable.auto.commit", "true", "reading every event exactly once depends on it"),
    ("auto.offset.reset", "earliest", "reading every event exactly once depends on it"),
    ("isolation.level", "read_uncommitted", "reading every event exactly once depends on it"),
    ("partition.assignment.strategy", "range", "reading every event exactly once depends on it"),
    ("partitioner", "random", "reading every event exactly once depends on it"),
    ("group.id", "x", "use the setting group"),
    ("bootstrap.servers", "x:1", "use the setting kafka_bootstrap_servers"),
    ("session.timeout.ms", "1", "use the setting session_timeout_ms"),
    ("sasl.passwort", "x", "it is not an option, or not one that is known to be harmless"),
    ("Sasl.Password", "x", "it is not an option, or not one that is known to be harmless"),
]


@pytest.mark.scenario("S11")
@pytest.mark.parametrize(("name", "value", "reason"), REFUSED)
def test_refused_options(name: str, value: str, reason: str) -> None:
    """An option is refused by name and with the reason; its value, which may be a secret, is not repeated."""
    with pytest.raises(SettingsError) as refused:
        check_options({"client.id": "fine", name: value})
    assert str(refused.value).startswith(f"kafka_options: {name} is not allowed")
    assert reason in str(refused.value)


def test_every_refused_option_is_told() -> None:
    """One start tells everything there is to correct."""
    with pytest.raises(SettingsError) as refused:
        check_options({"ssl.providers": "x", "group.id": "x"})
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize("name", sorted(options._CLIENT | options._CONSUMER | options._PRODUCER))
def test_allowed_options_exist(name: str) -> None:
    """Every name on the allow-list is one that librdkafka knows: none is misspelt."""
    complaint = ""
    try:
        Producer({"bootstrap.servers": "127.0.0.1:1", "log_level": 0, name: "\x01"})
    except KafkaException as error:  # most values are wrong for most options
        complaint = error.args[0].str()
    assert "No such configuration property" not in complaint


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_librdkafka_takes_the_configurations(protocol: str) -> None:
    """For both protocols, with options of all kinds: each client gets those that are for it."""
    extra = {"client.rack": "a", "fetch.min.bytes": "5", "linger.ms": "7", "sasl.username": "x"}
    consumer = consumer_config("127.0.0.1:1", "g", protocol, 45_000, 300_000, extra)  # type: ignore[arg-type]
    producer = producer_config("127.0.0.1:1", extra)
    assert "linger.ms" not in consumer
    assert consumer["fetch.min.bytes"] == "5"
    assert "fetch.min.bytes" not in producer
    assert producer["linger.ms"] == "7"
    assert not {"fetch.min.bytes", "linger.ms"} & admin_config("127.0.0.1:1", extra).keys()
    Consumer({**consumer, "log_level": 0}).close()
    Producer({**producer, "log_level": 0})


def test_nothing_that_exactly_once_rests_on_comes_from_outside() -> None:
    """What the program decides for itself is what operators cannot set."""
    config = consumer_config("127.0.0.1:1", "g", "classic", 45_000, 300_000, {})
    assert config["enable.auto.commit"] is False
    assert config["enable.auto.offset.store"] is False
    assert config["auto.offset.reset"] == "error"
    assert config["isolation.level"] == "read_committed"
    assert config["partition.assignment.strategy"] == "cooperative-sticky"
    assert producer_config("127.0.0.1:1", {})["enable.idempotence"] is True


@pytest.mark.parametrize("servers", ["kafka:9092", "a:1,b:2", "a:1, b:2", "[::1]:9092", "10.0.0.1:65535"])
def test_bootstrap_servers(servers: str) -> None:
    """One or several host:port."""
    check_bootstrap_servers(servers)


@pytest.mark.parametrize(
    "servers", ["", "kafka", "kafka:", ":9092", "a:1,", "a:0", "a:65536", "http://a:1", "::1:9092", "a b:1"]
)
def test_wrong_bootstrap_servers(servers: str) -> None:
    """Anything else would be waited for in vain."""
    with pytest.raises(SettingsError, match="is not host:port"):
        check_bootstrap_servers(servers)
