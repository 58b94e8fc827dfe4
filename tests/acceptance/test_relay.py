"""`tallystream compact` relays dead letters to a topic of a real broker: byte for byte, and at least once."""

from collections.abc import Callable

import pytest
from confluent_kafka import Consumer, Message

from tests.support.kafka import Broker
from tests.support.pipeline import Pipeline
from tests.support.program import run_tallystream
from tests.support.waiting import wait_until

HEADERS = (("trace", b"\x00\xff"), ("trace", b"again"), ("empty", None))
REFUSED = [b"\xff\xfe", b"", b"[1,", b'{"type": "movement"}', None]
PRODUCED_MS = 1_776_000_000_000


def read(kafka: Broker, topic: str, count: int) -> list[Message]:
    """So many records of a topic, from its beginning."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap_servers,
            "group.id": topic,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    found: list[Message] = []

    def enough() -> bool:
        found.extend(consumer.consume(10, 0.1))
        return len(found) >= count

    wait_until(enough, 60, f"{count} records in {topic}")
    consumer.close()
    return found


def test_dead_letters_reach_their_topic(pipeline: Pipeline, kafka: Broker, kafka_topic: Callable[..., str]) -> None:
    """Key, value, headers and time as they were, headers that say why behind them; once relayed they are left alone."""
    topic = kafka_topic()
    env = {
        "TALLYSTREAM_POSTGRES_DSN": pipeline.database.dsn,
        "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "TALLYSTREAM_DEAD_LETTER_TOPIC": topic,
    }
    pipeline.send(*REFUSED, key=b"\x00k", headers=HEADERS, timestamp_ms=PRODUCED_MS)
    consumer = pipeline.consumer()
    consumer.apply()
    for _ in range(2):
        run_tallystream("compact", "--once", env=env).check()
    assert pipeline.value("SELECT count(*) FROM _dead_letters WHERE relayed_at IS NULL") == 0
    pipeline.send(b"the last", key=None)
    consumer.apply()
    run_tallystream("compact", "--once", env=env).check()
    *records, last = read(kafka, topic, len(REFUSED) + 1)
    assert [record.value() for record in records] == REFUSED
    reasons = [reason for (reason,) in pipeline.rows("SELECT reason FROM _dead_letters ORDER BY id")]
    for offset, record in enumerate(records):
        assert (record.key(), record.timestamp()[1]) == (b"\x00k", PRODUCED_MS)
        headers: list[tuple[str, bytes | None]] = list(record.headers() or ())  # type: ignore[arg-type]
        assert tuple(headers[: len(HEADERS)]) == HEADERS
        told = dict(headers[len(HEADERS) :])
        assert (told["__connect.errors.topic"], told["__connect.errors.offset"]) == (b"events", b"%d" % offset)
        assert told["tallystream.reason"] == reasons[offset].encode()
    assert (last.key(), last.value()) == (None, b"the last")


@pytest.mark.scenario("B21")
def test_a_broker_that_is_away_loses_no_dead_letter(pipeline: Pipeline) -> None:
    """`--once` says so with exit code 2, and they are still to be relayed; folding was done all the same."""
    pipeline.send(b"\xff")
    pipeline.consumer().apply()
    env = {
        "TALLYSTREAM_POSTGRES_DSN": pipeline.database.dsn,
        "TALLYSTREAM_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
        "TALLYSTREAM_DEAD_LETTER_TOPIC": "refused",
        "TALLYSTREAM_STATEMENT_TIMEOUT_MS": "2000",
        "TALLYSTREAM_LOCK_TIMEOUT_MS": "2000",
    }
    done = run_tallystream("compact", "--once", env=env).check(2)
    assert "topic refused" in done.err
    assert pipeline.value("SELECT count(*) FROM _dead_letters WHERE relayed_at IS NULL") == 1
