"""`tallystream produce` and `tallystream settings`, as users run them."""

import json
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from ingest.demo.blunders import BLUNDERS
from ingest.demo.embedded import Broker as SimulatedBroker
from ingest.demo.shop import write_history
from ingest.kafka.options import producer_config
from ingest.kafka.producer import EventProducer
from tests.support.kafka import Broker
from tests.support.members import Member
from tests.support.program import Program, run_tallystream

SERVERS = "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS"
PROPAGATION = "TALLYSTREAM_KAFKA_OPTION_TOPIC_METADATA_PROPAGATION_MAX_MS"

MakeMember = Callable[..., Member]
MakeTopic = Callable[..., str]


@pytest.fixture
def servers() -> Iterator[str]:
    """A simulated broker with a topic of four partitions."""
    with SimulatedBroker() as broker:
        broker.create_topic("events", 4)
        yield broker.address


def test_lines_arrive_as_they_are(servers: str, members: MakeMember) -> None:
    """Byte for byte, in the order of the file within a recorder, with the recorder as the key."""
    lines = [json.dumps({"recorder": f"receipt:{n % 7}", "n": n, "amount": "1.10"}) for n in range(200)]
    done = run_tallystream(
        "produce", "-", env={SERVERS: servers, "TALLYSTREAM_TOPICS": "events"}, stdin="\n".join(lines)
    )
    assert done.check().out.startswith("200 events sent to events in ")
    member = members(servers, ["events"]).start()
    member.read_until(lambda: len(member.messages) == 200)
    for n in range(7):
        mine = [message for message in member.messages if message.key == f"receipt:{n}".encode()]
        assert [(message.value or b"").decode() for message in mine] == lines[n::7]
        assert len({message.partition for message in mine}) == 1


def test_bad_lines_are_named_and_the_others_sent(servers: str, tmp_path: Path) -> None:
    """Exit code 1, and each bad line with its number and what is wrong with it."""
    file = tmp_path / "events.jsonl"
    file.write_text('{"recorder": "a"}\n\nnonsense\n{"recorder": "b"}\n{}\n', encoding="utf-8")
    done = run_tallystream("produce", str(file), "--topic", "events", env={SERVERS: servers}).check(1)
    assert done.out.startswith("2 events sent to events in ")
    assert done.out.endswith(", 2 not sent\n")
    first, second = done.err.splitlines()
    assert first.startswith("line 3: not JSON: ")
    assert second == "line 5: has no recorder (a text or an integer)"


def test_a_thousand_bad_lines_are_counted(servers: str) -> None:
    """What is printed has a bound."""
    done = run_tallystream("produce", "-", "-t", "events", env={SERVERS: servers}, stdin="x\n" * 1000).check(1)
    assert done.err.splitlines()[-1] == "and 980 more"


@pytest.mark.parametrize(
    ("arguments", "env", "message"),
    [
        (["-t", "events"], {}, "kafka_bootstrap_servers is not set: set TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS"),
        ([], {SERVERS: "127.0.0.1:1"}, "say with --topic which topic to send to; the setting topics names none"),
        (["-t", "events"], {SERVERS: "127.0.0.1"}, "kafka_bootstrap_servers: '127.0.0.1' is not host:port"),
        (["-t", "events"], {SERVERS: "127.0.0.1:1"}, "no Kafka broker at 127.0.0.1:1 answers"),
        (["-t", "e"], {"TALLYSTREAM_TOPIC": "e"}, "TALLYSTREAM_TOPIC: there is no such setting; did you mean topics?"),
    ],
)
def test_what_cannot_work_is_one_message(arguments: list[str], env: dict[str, str], message: str) -> None:
    """Exit code 2 and what to correct, without a traceback."""
    done = run_tallystream("produce", "-", *arguments, env=env).check(2)
    assert f"tallystream: {message}" in done.err
    assert "Traceback" not in done.err
    assert done.out == ""


def test_a_topic_that_does_not_exist_is_told(kafka: Broker) -> None:
    """A misspelt topic is not waited for longer than said, and not created by asking for it."""
    env = {SERVERS: kafka.bootstrap_servers, PROPAGATION: "200"}
    done = run_tallystream("produce", "-", "-t", "misspelt", env=env).check(2)
    missing = (
        f"topic misspelt does not exist at {kafka.bootstrap_servers} after 0.2 s: Broker: Unknown topic or partition"
    )
    assert missing in done.err


def test_a_topic_may_be_created_meanwhile(kafka: Broker, program: Callable[..., Program], tmp_path: Path) -> None:
    """A topic that the brokers do not know of yet is waited for, and then everything is sent."""
    topic = f"late-{secrets.token_hex(4)}"
    (tmp_path / "events.jsonl").write_text('{"recorder": "a"}\n', encoding="utf-8")
    env = {SERVERS: kafka.bootstrap_servers, PROPAGATION: "60000"}
    producing = program("produce", "events.jsonl", "-t", topic, env=env)
    producing.wait_for_log(event="waiting for the topic", topic=topic)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1)])[topic].result()
    assert producing.wait() == 0
    assert any(line.startswith(f"1 events sent to {topic}") for line in producing.lines)
    admin.delete_topics([topic])[topic].result()


def test_recorders_are_where_java_producers_put_them(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember
) -> None:
    """The partition is murmur2 of the key, so that upstream's events of a recorder and ours are in one place."""
    topic = kafka_topic(partitions=7)
    producer = EventProducer(producer_config(kafka.bootstrap_servers, {}), topic)
    producer.check_topic()
    for recorder in (b"receipt:1", b"a", b"17", "é".encode()):
        producer.send(recorder, b"{}")
    producer.flush()
    assert (producer.delivered, producer.failed, producer.waiting) == (4, 0, 0)
    member = members(kafka.bootstrap_servers, [topic]).start()
    member.read_until(lambda: len(member.messages) == 4)
    for message in member.messages:
        assert message.partition == (_murmur2(message.key or b"") & 0x7FFFFFFF) % 7


def test_what_is_not_delivered_is_told_with_its_tag(servers: str) -> None:
    """Too large for the producer, or the broker is gone: nothing is passed over in silence."""
    options = {"delivery.timeout.ms": "1500", "message.max.bytes": "1000", "linger.ms": "0"}
    config = producer_config(servers, options)
    producer = EventProducer(config, "events")
    producer.send(b"a", b"x" * 2000, 1)
    producer.send(b"a", b"x", 2)
    producer.flush()
    assert (producer.delivered, producer.failed, [failure.tag for failure in producer.failures]) == (1, 1, [1])
    gone = EventProducer(producer_config("127.0.0.1:1", options), "events")
    gone.send(b"a", b"x", 3)
    gone.flush()
    assert (gone.delivered, [failure.tag for failure in gone.failures]) == (0, [3])


def test_settings_tell_value_and_origin(tmp_path: Path) -> None:
    """Everything in force, secrets hidden, for people and for programs."""
    (tmp_path / "tallystream.toml").write_text('group = "blue"\n[kafka_options]\nsasl.password = "geheim"\n')
    env = {"TALLYSTREAM_POSTGRES_DSN": "postgresql://app:geheim@db/shop", "TALLYSTREAM_TOPICS": "a,b"}
    for_people = run_tallystream("settings", env=env, folder=tmp_path).check().out
    for_programs = run_tallystream("settings", "--json", env=env, folder=tmp_path).check().out
    assert "geheim" not in for_people + for_programs
    found = json.loads(for_programs)
    assert found["group"] == {
        "value": "blue",
        "origin": "tallystream.toml",
        "description": "Consumer group: the workers of one group share the partitions.",
    }
    assert found["postgres_dsn"]["value"] == "postgresql://app:********@db/shop"
    assert found["topics"]["value"] == ["a", "b"]
    assert found["kafka_options.sasl.password"]["value"] == "********"
    assert found["batch_max_events"]["origin"] == "default"
    lines = {line.split(" ")[0]: line for line in for_people.splitlines()}
    assert lines.keys() == found.keys()
    assert lines["topics"].split()[2:] == ["a,b", "environment", "TALLYSTREAM_TOPICS"]


def test_a_settings_file_of_another_name(tmp_path: Path) -> None:
    """--config before the command names it; one that is not there is an error."""
    (tmp_path / "other.toml").write_text('group = "green"\n')
    done = run_tallystream("--config", "other.toml", "settings", "--json", folder=tmp_path).check()
    assert json.loads(done.out)["group"]["origin"] == "other.toml"
    done = run_tallystream("--config", "none.toml", "settings", folder=tmp_path).check(2)
    assert done.err == "tallystream: none.toml cannot be read: No such file or directory\n"


def _murmur2(data: bytes) -> int:
    """Kafka's hash, written from its Java source, independently of librdkafka."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = (0x9747B28C ^ len(data)) & mask
    whole = len(data) // 4 * 4
    for start in range(0, whole, 4):
        k = int.from_bytes(data[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = h * m & mask ^ k
    if rest := data[whole:]:
        h = (h ^ int.from_bytes(rest, "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15


def test_sample_events_are_what_produce_sends(servers: str) -> None:
    """The shop's events as lines, less those that are none; the same number gives the same ones, at any rate."""
    started = time.monotonic()
    paced = run_tallystream("sample-events", "--events", "300", "--rate", "300").check().out
    assert time.monotonic() - started > 0.9 * 300 / 330
    assert run_tallystream("sample-events", "--events", "300").check().out == paced
    assert run_tallystream("sample-events", "--events", "300", "--seed", "2").check().out != paced
    done = run_tallystream("produce", "-", "--topic", "events", env={SERVERS: servers}, stdin=paced).check()
    lines = paced.splitlines()
    assert done.out.startswith(f"{len(lines)} events sent to events in ")
    assert len(write_history(1, 300).events) - len(BLUNDERS) <= len(lines)
