"""What becomes of each event of one document, read in their order."""

import json

from ingest.domain.decoding import Decoder
from ingest.domain.messages import Message
from ingest.domain.plans import Outcome
from ingest.domain.tracing import may_be_of, trace
from tests.support.events import INVENTORY

LINE = {"warehouse": 1, "product": 1, "lot": "A", "quantity": "1", "amount": "1"}


def record(offset: int, **changes: object) -> Message:
    """An event of receipt:1."""
    body = {"type": "movement", "register": "inventory", "recorder": "receipt:1", "period": "2026-04-18T10:00:00Z"}
    value = json.dumps({**body, "movements": [LINE], **changes}).encode()
    return Message(topic="t", partition=0, offset=offset, timestamp_ms=None, key=b"receipt:1", value=value, headers=())


def test_each_event_has_its_own_outcome() -> None:
    """Against those before it; events of others are left out."""
    records = [
        record(0, id="a", revision=3),
        record(1, id="a", revision=3),
        record(2, id="b", revision=2),
        record(3, id="a", revision=4),
        record(4, id="c", revision=3, period="2026-04-19T10:00:00Z"),
        record(5, id="d", recorder="receipt:2"),
        record(6, id="e", colour="red"),
        record(7, id="f"),
    ]
    decoder = Decoder({"inventory": INVENTORY})
    traced = trace([decoder.decode(each) for each in records], ["inventory"], "receipt:1")
    assert [(each.offset, each.outcome, each.reason) for each in traced] == [
        (0, Outcome.APPLIED, None),
        (1, Outcome.DUPLICATE, None),
        (2, Outcome.STALE, None),
        (3, Outcome.DEAD_LETTER, "id_conflict"),
        (4, Outcome.DEAD_LETTER, "revision_conflict"),
        (6, Outcome.DEAD_LETTER, "unknown_key"),
        (7, Outcome.APPLIED, None),
    ]


def test_records_of_others_are_not_decoded() -> None:
    """By their keys, where a recorder can be written in one way only."""
    one = record(0, id="a")
    assert may_be_of(one, "receipt:1")
    assert not may_be_of(one, "receipt:2")
    assert may_be_of(one, "17")
    assert may_be_of(Message(topic="t", partition=0, offset=0, timestamp_ms=None, key=None, value=b"", headers=()), "r")
