"""A dead letter as a record: what came in goes out byte for byte, and headers say why it was refused."""

from datetime import UTC, datetime

from ingest.domain.compacting import Letter, record_of

LETTER = Letter(
    id=7,
    reason="unknown_register",
    path="register",
    detail="there is no register schü",
    sqlstate=None,
    register="schü",
    recorder="r1",
    event_id="e1",
    batch_id=3,
    group="tallystream",
    topic="events",
    partition=2,
    offset=41,
    event_at=datetime(2026, 4, 18, 10, tzinfo=UTC),
    key=b"\xff\x00",
    value=None,
    headers=(("trace", b"\x00\xfe"), ("trace", None), ("__connect.errors.topic", b"earlier")),
)


def test_key_value_and_headers_are_kept() -> None:
    """Whatever bytes they are, repeated and empty headers included, in their order and first."""
    record = record_of(LETTER)
    assert (record.key, record.value, record.timestamp_ms) == (b"\xff\x00", None, 1_776_506_400_000)
    assert record.headers[:3] == LETTER.headers


def test_headers_say_where_from_and_why() -> None:
    """Kafka Connect's names for its tools, ours for the exact reason; what is not known is left out."""
    added = dict(record_of(LETTER).headers[3:])
    assert added["__connect.errors.topic"] == b"events"
    assert (added["__connect.errors.partition"], added["__connect.errors.offset"]) == (b"2", b"41")
    assert added["__connect.errors.exception.message"] == "register: there is no register schü".encode()
    assert added["__connect.errors.exception.class.name"] == b"unknown_register"
    assert (added["tallystream.reason"], added["tallystream.dead_letter_id"]) == (b"unknown_register", b"7")
    assert added["tallystream.recorder"] == b"r1"
    assert "tallystream.sqlstate" not in added
