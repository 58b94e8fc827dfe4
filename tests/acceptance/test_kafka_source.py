"""The source against a real broker, with both rebalance protocols: only what is claimed is read, and all of that."""

import secrets
import time
from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicCollection
from confluent_kafka import TopicPartition as KafkaTopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic
from structlog.testing import capture_logs

from ingest.domain.positions import TopicPartition
from ingest.errors import FencedError, OperatorError
from tests.support.kafka import Broker
from tests.support.members import Member, Positions, Protocol, read_all_until
from tests.support.waiting import wait_until

TIMEOUT_S = 20

MakeMember = Callable[..., Member]
MakeTopic = Callable[..., str]


@pytest.fixture(params=["classic", "consumer"])
def protocol(request: pytest.FixtureRequest) -> Protocol:
    """Both rebalance protocols."""
    chosen: Protocol = request.param
    return chosen


def test_reading_begins_at_the_claims(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """Each partition from the offset of its claim on, in order, each message once; bounds and topic id are offered."""
    topic = kafka_topic(partitions=3)
    _produce(kafka, topic, 30)
    positions = Positions({TopicPartition(topic, 0): 4, TopicPartition(topic, 1): 10})
    member = members(kafka.bootstrap_servers, [topic], positions, protocol=protocol).start()
    member.read_until(lambda: len(member.messages) == 16)
    member.poll(1)
    assert [member.offsets(p) for p in range(3)] == [list(range(4, 10)), [], list(range(10))]
    assert [(b.topic_partition.partition, b.low, b.high) for b in member.offered] == [(p, 0, 10) for p in range(3)]
    described = _topic_id(kafka, topic)
    assert {bounds.topic_id for bounds in member.offered} == {described}


def test_messages_arrive_as_they_were_sent(kafka: Broker, kafka_topic: MakeTopic, members: MakeMember) -> None:
    """Key, value, headers and time; a missing key and a tombstone are None."""
    topic = kafka_topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    producer.produce(
        topic, b"value", b"key", headers=[("ce_id", b"1"), ("empty", None), ("ce_id", b"2")], timestamp=1234
    )
    producer.produce(topic, None, b"key")
    producer.produce(topic, b"", None)
    producer.flush(TIMEOUT_S)
    member = members(kafka.bootstrap_servers, [topic]).start()
    member.read_until(lambda: len(member.messages) == 3)
    first, tombstone, empty = member.messages
    assert (first.topic, first.partition, first.offset, first.timestamp_ms) == (topic, 0, 0, 1234)
    assert (first.key, first.value) == (b"key", b"value")
    assert first.headers == (("ce_id", b"1"), ("empty", None), ("ce_id", b"2"))
    assert (tombstone.key, tombstone.value, tombstone.headers) == (b"key", None, ())
    assert (empty.key, empty.value) == (None, b"")


def test_what_is_not_claimed_is_not_read_and_is_offered_again(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """A stopped partition does not hold up the others, and is read as soon as it can be claimed."""
    topic = kafka_topic(partitions=3)
    _produce(kafka, topic, 30)
    now = time.monotonic()
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol, clock=lambda: now)
    stopped = TopicPartition(topic, 1)
    member.refuse.add(stopped)
    member.start()
    member.read_until(lambda: len(member.messages) == 20)
    member.poll(0.5)
    assert member.offsets(1) == []
    now += 31
    member.poll()
    assert [bounds.topic_partition for bounds in member.offered[3:]] == [stopped]
    member.refuse.clear()
    now += 31
    member.read_until(lambda: len(member.messages) == 30)
    assert [member.offsets(p) for p in range(3)] == [list(range(10))] * 3


def test_a_failure_to_claim_comes_out_of_poll(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """It is raised until the group is joined anew, nothing is read meanwhile, and nothing is lost."""
    topic = kafka_topic(partitions=2)
    _produce(kafka, topic, 20)
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol)
    member.fail_on_assigned = RuntimeError("PostgreSQL is away")
    member.start()
    with pytest.raises(RuntimeError, match="PostgreSQL is away"):
        member.read_until(lambda: member.messages)
    with pytest.raises(RuntimeError, match="PostgreSQL is away"):
        member.poll()
    member.fail_on_assigned = None
    member.drop()
    member.source.rejoin()
    member.read_until(lambda: len(member.messages) == 20)
    assert [member.offsets(p) for p in range(2)] == [list(range(10))] * 2


@pytest.mark.scenario("B4")
def test_two_members_share_and_read_everything_once(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """The first one commits what it has before a partition goes to the second, which reads on from there."""
    topic, group, positions = kafka_topic(partitions=4), secrets.token_hex(4), Positions()
    _produce(kafka, topic, 40)
    first = members(kafka.bootstrap_servers, [topic], positions, group=group, protocol=protocol).start()
    first.commit_on_revoked = True
    first.read_until(lambda: len(first.messages) == 40)
    second = members(kafka.bootstrap_servers, [topic], positions, group=group, protocol=protocol).start()
    read_all_until([first, second], lambda: len(first.claims) == 2 and len(second.claims) == 2)
    assert [lost for _, lost in first.left] == [False, False]
    assert not first.claims.keys() & second.claims.keys()
    _produce(kafka, topic, 40)
    read_all_until([first, second], lambda: len(first.messages) + len(second.messages) >= 80)
    assert [sorted(first.offsets(p) + second.offsets(p)) for p in range(4)] == [list(range(20))] * 4


def test_a_stopped_partition_moves_to_another_member_too(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """The group gives away what nobody claimed here as well; the rebalance does not wait for it."""
    topic, group, positions = kafka_topic(partitions=2), secrets.token_hex(4), Positions()
    _produce(kafka, topic, 20)
    first = members(kafka.bootstrap_servers, [topic], positions, group=group, protocol=protocol)
    first.refuse |= {TopicPartition(topic, 0), TopicPartition(topic, 1)}
    first.start()
    first.read_until(lambda: len(first.offered) == 2)
    second = members(kafka.bootstrap_servers, [topic], positions, group=group, protocol=protocol).start()
    read_all_until([first, second], lambda: len(second.messages) == 10)
    assert first.left == []
    first.source.close()
    second.read_until(lambda: len(second.messages) == 20)


def test_a_failure_on_revocation_comes_out_of_poll(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """The partition moves all the same; the member tells its failure and can join anew."""
    topic, group, positions = kafka_topic(partitions=2), secrets.token_hex(4), Positions()
    first = members(kafka.bootstrap_servers, [topic], positions, group=group, protocol=protocol).start()
    first.fail_on_revoked = RuntimeError("fenced")
    first.read_until(lambda: len(first.claims) == 2)
    second = members(kafka.bootstrap_servers, [topic], positions, group=group, protocol=protocol).start()
    with pytest.raises(RuntimeError, match="fenced"):
        read_all_until([first, second], lambda: second.claims)
    first.fail_on_revoked = None
    first.drop()
    first.source.rejoin()
    _produce(kafka, topic, 20)
    read_all_until([first, second], lambda: len(first.messages) + len(second.messages) >= 20)
    assert [sorted(first.offsets(p) + second.offsets(p)) for p in range(2)] == [list(range(10))] * 2


@pytest.mark.scenario("B6")
def test_a_member_that_was_away_too_long_reads_from_the_positions_again(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """Its partitions are lost; claimed again, maybe within the same poll, they are read from the new claim."""
    topic = kafka_topic(partitions=2)
    _produce(kafka, topic, 40)
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol, max_poll_interval_ms=6_000).start()
    member.read_until(lambda: len(member.messages) >= 4)
    while len(member.messages) < 10:
        member.poll(most=1)
    member.commit()
    while len(member.messages) < 20:
        member.poll(most=1)
    time.sleep(7)  # the thing itself: not polling for longer than max.poll.interval.ms
    committed = {p: member.positions.next_offsets[TopicPartition(topic, p)] for p in range(2)}
    member.messages.clear()
    for _ in range(3):
        member.poll(5, most=1000)
    assert sorted(member.left) == [(TopicPartition(topic, 0), True), (TopicPartition(topic, 1), True)]
    assert [member.offsets(p) for p in range(2)] == [list(range(committed[p], 20)) for p in range(2)]


@pytest.mark.scenario("B16")
def test_aborted_transactions_are_gaps(kafka: Broker, kafka_topic: MakeTopic, members: MakeMember) -> None:
    """Only committed messages come; the offsets between are missing, and the log's end is behind a marker."""
    topic = kafka_topic()
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    producer.init_transactions(TIMEOUT_S)
    for value, good in ((b"a", True), (b"b", False), (b"c", True), (b"d", False)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(TIMEOUT_S)  # an abort would purge what was not sent yet
        (producer.commit_transaction if good else producer.abort_transaction)(TIMEOUT_S)
    member = members(kafka.bootstrap_servers, [topic]).start()
    member.read_until(lambda: len(member.messages) == 2)
    assert member.poll(1) == []
    assert [(m.offset, m.value) for m in member.messages] == [(0, b"a"), (4, b"c")]
    assert member.source.high_watermarks([TopicPartition(topic, 0)]) == {TopicPartition(topic, 0): 8}
    member.commit()
    again = members(kafka.bootstrap_servers, [topic], member.positions).start()
    again.read_until(lambda: again.claims)
    assert again.poll(1) == []


@pytest.mark.scenario("B17")
def test_a_transaction_that_never_ends_is_said(kafka: Broker, kafka_topic: MakeTopic, members: MakeMember) -> None:
    """What is behind it is not read, and that is said after a while; polling waits, it does not spin."""
    topic = kafka_topic()
    hanging = Producer({"bootstrap.servers": kafka.bootstrap_servers, "transactional.id": topic})
    hanging.init_transactions(TIMEOUT_S)
    hanging.begin_transaction()
    hanging.produce(topic, b"never")
    hanging.flush(TIMEOUT_S)
    _produce(kafka, topic, 5)
    past = 0.0
    member = members(kafka.bootstrap_servers, [topic], clock=lambda: time.monotonic() + past).start()
    with capture_logs() as logs:
        member.read_until(lambda: member.source._stalls._held, timeout_s=TIMEOUT_S)
        past = 100.0
        began, polls = time.monotonic(), 0
        while not any("lso_stalled" in str(one["event"]) for one in logs):
            assert time.monotonic() - began < TIMEOUT_S
            member.poll(0.2)
            polls += 1
    assert polls <= (time.monotonic() - began) / 0.2 + 1
    assert member.messages == []
    hanging.abort_transaction(TIMEOUT_S)
    member.read_until(lambda: len(member.messages) == 5)


@pytest.mark.scenario("B11")
def test_records_that_are_gone_stop_the_partition(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """Retention went past the position while nobody read: the message names exactly what is missing."""
    topic = kafka_topic(partitions=2)
    _produce(kafka, topic, 20)
    _delete_records(kafka, topic, 0, 7)
    positions = Positions({TopicPartition(topic, 0): 3, TopicPartition(topic, 1): 3})
    member = members(kafka.bootstrap_servers, [topic], positions, protocol=protocol).start()
    member.read_until(lambda: len(member.messages) == 7)
    member.poll(0.5)
    assert [member.offsets(p) for p in range(2)] == [[], list(range(3, 10))]
    (problem,) = member.stopped.values()
    assert f"offsets 3..6 of topic {topic} partition 0 are gone" in str(problem)


@pytest.mark.scenario("B11")
def test_retention_that_overtakes_a_reader_stops_the_partition(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """The same while reading: after what was read is committed, so that the message does not name too much."""
    topic = kafka_topic()
    for _ in range(20):
        _produce(kafka, topic, 50, size=1000)  # a batch of its own: a fetch takes one of them at least
    tight = {"queued.min.messages": "1", "queued.max.messages.kbytes": "1", "fetch.message.max.bytes": "1000"}
    options = {**tight, "fetch.max.bytes": "1000", "message.max.bytes": "1000"}
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol, options=options).start()
    while len(member.messages) < 20:
        member.poll(most=1)
    _delete_records(kafka, topic, 0, 900)
    member.read_until(lambda: not member.poll(1))
    assert not member.left, "it is not given up before what was read is committed"
    read = member.messages[-1].offset + 1
    assert read < 900
    member.commit()
    member.read_until(lambda: member.stopped)
    (problem,) = member.stopped.values()
    assert f"offsets {read}..899 of topic {topic} partition 0 are gone" in str(problem)
    assert member.left == [(TopicPartition(topic, 0), False)]
    assert [m.offset for m in member.messages] == list(range(read))


@pytest.mark.scenario("B13")
def test_a_recreated_topic_stops_its_partitions(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """A topic of the same name with other messages at the same offsets is not taken for the old one."""
    topic = kafka_topic(partitions=2)
    _produce(kafka, topic, 20)
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol)
    member.commit_on_revoked = True
    member.start()
    member.read_until(lambda: len(member.messages) == 20)
    member.commit()
    before = dict(member.positions.next_offsets)
    old = _topic_id(kafka, topic)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.delete_topics([topic])[topic].result(TIMEOUT_S)
    wait_until(lambda: _create(admin, topic, 2), TIMEOUT_S, "the topic is created again")
    _produce(kafka, topic, 40)
    # The client may read on as if nothing had happened, or find its offset outside the log; neither is ever committed.
    try:
        member.read_until(lambda: member.stopped or len(member.messages) > 20)
        member.commit()
    except FencedError:
        member.drop()
        member.source.rejoin()
    member.read_until(lambda: len(member.stopped) == 2)
    assert member.poll(1) == []
    assert member.positions.next_offsets == before, "not one message of the new topic"
    for problem in member.stopped.values():
        assert f"its topic id was {old} and is {_topic_id(kafka, topic)} now" in str(problem)


@pytest.mark.scenario("B14")
def test_partitions_that_are_added_are_read(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """They come to the group by themselves, from their start."""
    topic = kafka_topic(partitions=1)
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol).start()
    member.read_until(lambda: member.claims)
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(TIMEOUT_S)
    member.read_until(lambda: len(member.claims) == 3)
    _produce(kafka, topic, 30)
    member.read_until(lambda: len(member.messages) == 30)
    assert len(member.offered) == 3


def test_a_topic_that_does_not_exist_yet_is_waited_for(kafka: Broker, members: MakeMember, protocol: Protocol) -> None:
    """A worker may be deployed before its topic is created."""
    topic = f"events-{secrets.token_hex(6)}"
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol).start()
    member.poll(2)
    assert not member.offered
    assert _create(AdminClient({"bootstrap.servers": kafka.bootstrap_servers}), topic, 1)
    _produce(kafka, topic, 5)
    member.read_until(lambda: len(member.messages) == 5)


def test_mirrored_offsets_are_what_tools_see(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """Also when the group is left at once; and nobody begins there."""
    topic, group = kafka_topic(partitions=2), secrets.token_hex(4)
    _produce(kafka, topic, 20)
    member = members(kafka.bootstrap_servers, [topic], group=group, protocol=protocol).start()
    member.read_until(lambda: len(member.messages) == 20)
    member.source.mirror({TopicPartition(topic, 0): 7, TopicPartition("elsewhere", 0): 5})
    wait_until(lambda: _committed(kafka, group, topic, 0) == 7, TIMEOUT_S, "the offset is visible")
    member.source.mirror({TopicPartition(topic, 0): 8})
    member.source.close()
    assert _committed(kafka, group, topic, 0) == 8
    again = members(kafka.bootstrap_servers, [topic], Positions(), group=group, protocol=protocol).start()
    again.read_until(lambda: len(again.messages) == 20)


@pytest.mark.scenario("B8")
def test_offsets_that_could_not_be_told_are_told_again(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """A rebalance refuses them, and there may be no later batch: a group at rest would show a lag for ever."""
    topic, group = kafka_topic(), secrets.token_hex(4)
    _produce(kafka, topic, 20)
    member = members(kafka.bootstrap_servers, [topic], group=group, protocol=protocol).start()
    member.read_until(lambda: len(member.messages) == 20)
    source = member.source
    source._assignment.committed[topic, 0] = 20
    refused = KafkaError(KafkaError.REBALANCE_IN_PROGRESS)
    source._on_commit(refused, [KafkaTopicPartition(topic, 0, 20)])
    member.read_until(lambda: _committed(kafka, group, topic, 0) == 20)


def test_pausing_loses_nothing(kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol) -> None:
    """While paused nothing comes, however much is waiting; afterwards everything, once."""
    topic = kafka_topic(partitions=2)
    _produce(kafka, topic, 4000)
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol).start()
    member.read_until(lambda: member.messages)
    for _ in range(5):
        member.poll(most=37)
        member.source.pause()
        assert [member.poll(0.05, most=37) for _ in range(4)] == [[]] * 4
        member.source.resume()
    member.read_until(lambda: len(member.messages) >= 4000)
    assert member.poll(0.5) == []
    assert [member.offsets(p) for p in range(2)] == [list(range(2000))] * 2


def test_what_is_assigned_during_a_pause_is_paused(kafka: Broker, kafka_topic: MakeTopic, members: MakeMember) -> None:
    """The pause is the member's, not that of the partitions it happens to have."""
    topic = kafka_topic()
    _produce(kafka, topic, 10)
    member = members(kafka.bootstrap_servers, [topic])
    member.source.pause()
    member.start()
    member.read_until(lambda: member.claims)
    assert [member.poll(0.2) for _ in range(5)] == [[]] * 5
    member.source.resume()
    member.read_until(lambda: len(member.messages) == 10)


def test_what_was_taken_away_during_a_pause_is_read_when_it_comes_again(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """The client remembers a pause for a partition that it gave up meanwhile; the pause ended with it."""
    topic = kafka_topic(partitions=2)
    _produce(kafka, topic, 200)
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol).start()
    member.read_until(lambda: member.messages)
    member.source.pause()
    member.drop()
    member.source.rejoin()
    member.source.resume()
    member.messages.clear()
    starts = dict(member.positions.next_offsets)
    member.read_until(lambda: len(member.messages) >= 200 - sum(starts.values()))


def test_joining_anew_reads_from_the_positions(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """What was read and not committed comes again, from the new claim, once; the handlers are not asked."""
    topic = kafka_topic(partitions=2)
    _produce(kafka, topic, 2000)
    member = members(kafka.bootstrap_servers, [topic], protocol=protocol).start()
    member.read_until(lambda: len(member.messages) >= 100)
    member.commit()
    member.poll(most=50)
    for _ in range(3):
        member.drop()
        member.source.rejoin()
        member.messages.clear()
        starts = dict(member.positions.next_offsets)
        expected = 2000 - sum(starts.values())
        member.read_until(lambda expected=expected: len(member.messages) >= expected)  # type: ignore[misc]
        for p in range(2):
            assert member.offsets(p) == list(range(starts[TopicPartition(topic, p)], 1000))
    assert member.left == []


def test_closing_leaves_the_group_at_once(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """The others get the partitions without waiting for a session to expire; a closed source is not polled."""
    topic, group, positions = kafka_topic(partitions=2), secrets.token_hex(4), Positions()
    options = {"group": group, "protocol": protocol, "session_timeout_ms": 40_000}
    first = members(kafka.bootstrap_servers, [topic], positions, **options).start()
    first.read_until(lambda: len(first.claims) == 2)
    first.source.close()
    with pytest.raises(RuntimeError, match="closed"):
        first.poll()
    second = members(kafka.bootstrap_servers, [topic], positions, **options).start()
    second.read_until(lambda: len(second.claims) == 2, timeout_s=15)
    assert first.left == []


@pytest.mark.scenario("B7")
def test_the_same_static_name_twice_is_fatal_for_one(
    kafka: Broker, kafka_topic: MakeTopic, members: MakeMember, protocol: Protocol
) -> None:
    """The broker fences one of them, and that one says so, for an operator to read."""
    topic, group = kafka_topic(partitions=2), secrets.token_hex(4)
    options = {"group.instance.id": "worker-1"}
    first = members(kafka.bootstrap_servers, [topic], group=group, protocol=protocol, options=options).start()
    first.read_until(lambda: len(first.claims) == 2)
    second = members(kafka.bootstrap_servers, [topic], group=group, protocol=protocol, options=options).start()
    with pytest.raises(OperatorError, match=r"Kafka refuses this worker for good: .*[iI]nstance"):
        read_all_until([first, second], lambda: False)


def _produce(kafka: Broker, topic: str, count: int, size: int = 0) -> None:
    """So many messages, in turn to each partition."""
    producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    partitions = wait_until(
        lambda: len(producer.list_topics(topic, timeout=TIMEOUT_S).topics[topic].partitions), TIMEOUT_S, "the topic"
    )
    for number in range(count):
        producer.produce(topic, str(number).encode().ljust(size), partition=number % partitions)
    assert producer.flush(TIMEOUT_S) == 0


def _delete_records(kafka: Broker, topic: str, partition: int, before: int) -> None:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.delete_records([KafkaTopicPartition(topic, partition, before)]).values():
        future.result(TIMEOUT_S)


def _create(admin: AdminClient, topic: str, partitions: int) -> bool:
    """Whether it could be created: a deleted topic takes a moment to be gone."""
    future = admin.create_topics([NewTopic(topic, partitions, 1)])[topic]
    return future.exception(TIMEOUT_S) is None


def _topic_id(kafka: Broker, topic: str) -> str:
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    description = admin.describe_topics(TopicCollection([topic]))[topic].result(TIMEOUT_S)
    return str(description.topic_id).translate(str.maketrans("+/", "-_"))


def _committed(kafka: Broker, group: str, topic: str, partition: int) -> int:
    consumer = Consumer({"bootstrap.servers": kafka.bootstrap_servers, "group.id": group})
    try:
        (found,) = consumer.committed([KafkaTopicPartition(topic, partition)], timeout=TIMEOUT_S)
        return int(found.offset)
    finally:
        consumer.close()
