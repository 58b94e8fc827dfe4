"""The event contract: what an event may say, and which reason and place a refusal names."""

from datetime import UTC, datetime

import pytest

from ingest.domain.messages import EventType, Limits, Movement, Refusal
from ingest.domain.registers import Register
from tests.support.events import (
    EVENT,
    EVERYTHING,
    INVENTORY,
    MOVEMENT,
    Document,
    accepted,
    decoder,
    event,
    movement,
    record,
    refused,
    values,
)

UUID = "0b9f6c3e-7a51-4a0e-9d5b-1f2e3d4c5b6a"
TEN = datetime(2026, 4, 18, 10, tzinfo=UTC)


def outcome(value: bytes | str | Document | None, key: bytes | None = None, *, limits: Limits | None = None) -> str:
    """`ok`, or the refusal's reason and path."""
    result = decoder(limits=limits).decode(record(value, key))
    return refused(result) if isinstance(result, Refusal) else "ok"


def test_movement_event() -> None:
    """An event comes out typed, in canonical text, with the record it came in."""
    message = record(EVENT, key=b"receipt:1")
    decoded = accepted(decoder().decode(message))
    assert decoded.message is message
    assert (decoded.type, decoded.register, decoded.recorder, decoded.id, decoded.revision) == (
        EventType.MOVEMENT,
        "inventory",
        "receipt:1",
        "e-1",
        1,
    )
    assert tuple(decoded.movements) == (Movement(TEN, ("1", "42", "A", "100", "5000")),)


def test_every_type_of_column() -> None:
    """Dimensions, then resources, in the register's order, whatever order the event has."""
    item = {
        "r_real": 0.5,
        "r_double": "1e-7",
        "r_bigint": -5,
        "r_int": "7.0",
        "r_numeric": "0.10",
        "r_decimal": 12.5,
        "d_timestamptz": "2026-04-18T12:00:00+02:00",
        "d_numeric": "1.50",
        "d_boolean": True,
        "d_date": "2026-04-18",
        "d_uuid": UUID.upper(),
        "d_varchar": "ab   ",
        "d_text": "",
        "d_bigint": 2**40,
        "d_int": -3,
        "d_smallint": 0,
    }
    decoded = accepted(decoder(EVERYTHING).decode(record(event(register="everything", movements=[item]))))
    assert decoded.movements[0].values == (
        *("0", "-3", "1099511627776", "", "ab   ", UUID, "2026-04-18", "t", "1.5", "2026-04-18 10:00:00+00"),
        *("12.5", "0.1", "7", "-5", "1e-07", "0.5"),
    )


def test_all_dimensions_may_be_null() -> None:
    """Null is a value of its own, and not the empty string."""
    nothing: Document = dict.fromkeys(column.name for column in EVERYTHING.dimensions)
    zeros = dict.fromkeys((column.name for column in EVERYTHING.resources), 0)
    decoded = accepted(decoder(EVERYTHING).decode(record(event(register="everything", movements=[nothing | zeros]))))
    assert decoded.movements[0].values == (None,) * 10 + ("0",) * 6


def test_unpost_and_repost() -> None:
    """An unpost needs no movements and no period, a repost may have none."""
    for document, event_type in (
        (event(type="unpost", movements=..., period=...), EventType.UNPOST),
        (event(type="unpost", movements=None, period=None), EventType.UNPOST),
        (event(type="repost", movements=[], period=...), EventType.REPOST),
    ):
        decoded = accepted(decoder().decode(record(document)))
        assert (decoded.type, tuple(decoded.movements)) == (event_type, ())
    assert accepted(decoder().decode(record(event(type="repost")))).movements[0].period == TEN


def test_null_is_as_good_as_absent() -> None:
    """What writes every key of its structure writes null for what it does not have."""
    assert accepted(decoder().decode(record(event(revision=None)))).revision is None
    assert accepted(decoder().decode(record(event(revision=...)))).revision is None
    own = MOVEMENT | {"period": "2026-04-18T10:00:00Z"}
    assert accepted(decoder().decode(record(event(period=None, movements=[own])))).movements[0].period == TEN
    assert accepted(decoder().decode(record(movement(period=None)))).movements[0].period == TEN


def test_movements_with_periods_of_their_own() -> None:
    """A movement's own period goes before the event's; the same instant is the same, whatever its offset."""
    items = [
        MOVEMENT,
        MOVEMENT | {"period": "2026-04-18T23:00:00-11:00"},
        MOVEMENT | {"period": "2026-04-19T10:00:00Z"},
        MOVEMENT | {"period": "2026-04-19T10:00:00Z"},
        MOVEMENT,
    ]
    decoded = accepted(decoder().decode(record(event(movements=items))))
    later = datetime(2026, 4, 19, 10, tzinfo=UTC)
    assert [each.period for each in decoded.movements] == [TEN, later, later, later, TEN]


REFUSALS: list[tuple[Document, str]] = [
    # The event's own keys.
    ({}, "missing_key type"),
    (event(type=...), "missing_key type"),
    (event(type=None), "missing_key type"),
    (event(type="posting"), "unknown_type type"),
    (event(type="Movement"), "unknown_type type"),
    (event(type=3), "wrong_type type"),
    (event(type=1.5), "wrong_type type"),
    (event(id=...), "missing_key id"),
    (event(id=None), "missing_key id"),
    (event(id=7), "wrong_type id"),
    (event(id=1.5), "wrong_type id"),
    (event(id=True), "wrong_type id"),
    (event(id=""), "empty_text id"),
    (event(id="x" * 201), "text_too_long id"),
    (event(register=...), "missing_key register"),
    (event(register=["inventory"]), "wrong_type register"),
    (event(register="inventry"), "unknown_register register"),
    (event(register=""), "unknown_register register"),
    (event(register="Inventory"), "unknown_register register"),
    (event(recorder=...), "missing_key recorder"),
    (event(recorder=None), "missing_key recorder"),
    (event(recorder=5), "wrong_type recorder"),
    (event(recorder=1.5), "wrong_type recorder"),
    (event(recorder=True), "wrong_type recorder"),
    (event(recorder=""), "empty_text recorder"),
    (event(recorder="x" * 201), "text_too_long recorder"),
    (event(revision="1"), "wrong_type revision"),
    (event(revision=1.0), "wrong_type revision"),
    (event(revision=True), "wrong_type revision"),
    (event(revision=-1), "out_of_range revision"),
    (event(revision=2**63), "out_of_range revision"),
    (event(revision=10**39), "out_of_range revision"),
    (event(movements=...), "missing_key movements"),
    (event(movements=None), "missing_key movements"),
    (event(movements={}), "wrong_type movements"),
    (event(movements="[]"), "wrong_type movements"),
    (event(movements=[]), "no_movements movements"),
    (event(type="repost", movements=...), "missing_key movements"),
    (event(type="unpost"), "unexpected_key movements"),
    (event(type="unpost", movements=[]), "unexpected_key movements"),
    (event(Register="inventory"), "unknown_key Register"),
    (event(extra=None), "unknown_key extra"),
    (event(**{"a b": 1}), 'unknown_key ["a b"]'),
    (event(**{"\0": 1}), 'unknown_key ["\\u0000"]'),
    # The event's period.
    (event(period=...), "missing_key movements[0].period"),
    (event(period=""), "invalid_time period"),
    (event(period="2026-04-18T10:00:00"), "invalid_time period"),
    (event(period=1776506400), "wrong_type period"),
    (event(period="1999-12-31T23:59:59.999999Z"), "period_out_of_range period"),
    (event(period="2100-01-01T00:00:00Z"), "period_out_of_range period"),
    (event(period="0001-01-01T00:00:00Z"), "period_out_of_range period"),
    (event(period="9999-12-31T23:59:59Z"), "period_out_of_range period"),
    (event(type="unpost", movements=..., period="yesterday"), "invalid_time period"),
    # Movements.
    (event(movements=[MOVEMENT, None]), "not_an_object movements[1]"),
    (event(movements=[MOVEMENT, [MOVEMENT]]), "not_an_object movements[1]"),
    (event(movements=[{}]), "missing_dimension movements[0].warehouse"),
    (movement(lot=...), "missing_dimension movements[0].lot"),
    (movement(amount=...), "missing_resource movements[0].amount"),
    (movement(amount=None), "missing_resource movements[0].amount"),
    (movement(amount=..., ammount="1"), "unknown_column movements[0].ammount"),
    (movement(ammount="1"), "unknown_column movements[0].ammount"),
    (movement(lot=..., Lot="A"), "unknown_column movements[0].Lot"),
    (movement(recorder="receipt:1"), "unknown_column movements[0].recorder"),
    (movement(warehouse="1"), "wrong_type movements[0].warehouse"),
    (movement(warehouse=1.0), "wrong_type movements[0].warehouse"),
    (movement(warehouse=2**31), "out_of_range movements[0].warehouse"),
    (movement(lot=5), "wrong_type movements[0].lot"),
    (movement(lot={"a": 1}), "wrong_type movements[0].lot"),
    (movement(quantity=True), "wrong_type movements[0].quantity"),
    (movement(quantity=[1]), "wrong_type movements[0].quantity"),
    (movement(quantity="1.2345"), "inexact movements[0].quantity"),
    (movement(quantity="abc"), "not_a_number movements[0].quantity"),
    (movement(quantity=""), "not_a_number movements[0].quantity"),
    (movement(period="2026-04-18"), "invalid_time movements[0].period"),
    (movement(period=0), "wrong_type movements[0].period"),
    (movement(period=["2026-04-18T10:00:00Z"]), "wrong_type movements[0].period"),
    (movement(period="1999-06-01T00:00:00Z"), "period_out_of_range movements[0].period"),
    (
        event(movements=[MOVEMENT, MOVEMENT, MOVEMENT, MOVEMENT | {"quantity": "x"}]),
        "not_a_number movements[3].quantity",
    ),
]


@pytest.mark.parametrize(("document", "expected"), REFUSALS)
def test_refusal(document: Document, expected: str) -> None:
    """Each fault has its reason and the path of what is at fault."""
    assert outcome(document) == expected


def test_refusal_says_what_the_event_said() -> None:
    """Register, recorder and id are there for whoever looks for a dead letter, as far as they are legible."""
    refusal = decoder().decode(record(movement(quantity="x")))
    assert isinstance(refusal, Refusal)
    assert (refusal.register, refusal.recorder, refusal.event_id) == ("inventory", "receipt:1", "e-1")
    broken = decoder().decode(record(event(register="\0", recorder=["receipt:1"], id="\ud800")))
    assert isinstance(broken, Refusal)
    assert (broken.register, broken.recorder, broken.event_id) == (None, None, None)
    number = decoder().decode(record(event(recorder=17)))
    assert isinstance(number, Refusal)
    assert number.recorder == "17"


def test_misspelt_resource_gets_a_hint() -> None:
    """Most unknown columns are misspelt ones."""
    refusal = decoder().decode(record(movement(quantity=..., quantty="1")))
    assert isinstance(refusal, Refusal)
    assert refusal.detail.endswith("did you mean quantity?")


@pytest.mark.scenario("B20")
@pytest.mark.parametrize(
    ("recorder_type", "recorder", "key", "expected"),
    [
        ("text", "receipt:1", None, "ok"),
        ("text", "receipt:1", b"receipt:1", "ok"),
        ("text", "r\u00e9", "r\u00e9".encode(), "ok"),
        ("text", "receipt:1", b"receipt:2", "key_mismatch"),
        ("text", "receipt:1", b"", "key_mismatch"),
        ("text", "receipt:1", b'"receipt:1"', "key_mismatch"),
        ("text", "receipt:1", b"receipt:1\0", "key_mismatch"),
        ("text", "receipt:1", b"\xff", "key_mismatch"),
        ("int", 42, b"42", "ok"),
        ("int", 42, b"042", "key_mismatch"),
        ("int", 42, b"\0\0\0*", "key_mismatch"),
        ("uuid", UUID, UUID.encode(), "ok"),
        ("uuid", UUID, UUID.upper().encode(), "ok"),
        ("uuid", UUID, b"0b9f6c3e", "key_mismatch"),
    ],
)
def test_key_is_the_recorder(recorder_type: str, recorder: object, key: bytes | None, expected: str) -> None:
    """Kafka keeps the order of a key only, so a record under another key is refused."""
    result = decoder(recorder_type=recorder_type).decode(record(event(recorder=recorder), key))
    assert (refused(result) if isinstance(result, Refusal) else "ok") == expected


@pytest.mark.scenario("B18")
def test_tombstone() -> None:
    """A record without a value unposts its key where one register takes it so; its place is its id."""
    decoded = accepted(decoder(tombstone_unposts=True).decode(record(None, b"receipt:1")))
    assert (decoded.type, decoded.register, decoded.recorder, decoded.id) == (
        EventType.UNPOST,
        "inventory",
        "receipt:1",
        "tombstone:events:2:7",
    )
    assert (decoded.revision, tuple(decoded.movements)) == (None, ())


@pytest.mark.parametrize(
    ("registers", "tombstone_unposts", "value", "key", "expected"),
    [
        ((INVENTORY,), False, None, b"receipt:1", "empty_value"),
        ((INVENTORY,), True, None, None, "empty_value"),
        ((INVENTORY, EVERYTHING), True, None, b"receipt:1", "empty_value"),
        ((INVENTORY,), True, None, b"", "empty_text"),
        ((INVENTORY,), True, None, b"\xff", "not_utf8"),
        ((INVENTORY,), True, None, b"a\0", "invalid_text"),
        ((INVENTORY,), True, b"", b"receipt:1", "empty_value"),
    ],
)
def test_no_tombstone(
    registers: tuple[Register, ...], tombstone_unposts: object, value: bytes | None, key: bytes | None, expected: str
) -> None:
    """An empty value is not null, and nobody guesses which of two registers was meant."""
    assert refused(decoder(*registers, tombstone_unposts=tombstone_unposts).decode(record(value, key))) == expected


def test_same_content_same_digest() -> None:
    """What means the same has the same digest, however it is spelt; the id is not part of the content."""
    spellings = [
        event(),
        event(id="e-2", period="2026-04-18T12:00:00+02:00"),
        *(event(period=f"2026-04-18{at}") for at in ("T10:00:00+00:00", "T10:00:00.0Z", "t10:00:00Z", "T10:00:00z")),
        movement(quantity=100, amount="5e3", period="2026-04-18T10:00:00.000Z"),
    ]
    digests = {accepted(decoder().decode(record(each))).content_digest for each in spellings}
    assert len(digests) == 1
    ids = {accepted(decoder().decode(record(each))).id_digest for each in spellings}
    assert len(ids) == 2


def test_other_content_other_digest() -> None:
    """Type, revision, period, each value and the order of movements are content."""
    documents = [
        event(),
        event(type="repost"),
        event(type="repost", movements=[]),
        event(type="unpost", movements=...),
        event(revision=2),
        event(revision=...),
        event(period="2026-04-18T10:00:00.000001Z"),
        movement(quantity="100.001"),
        movement(lot=None),
        movement(lot=""),
        movement(lot="-"),
        event(movements=[MOVEMENT, MOVEMENT]),
        event(movements=[MOVEMENT, MOVEMENT | {"lot": "B"}]),
        event(movements=[MOVEMENT | {"lot": "B"}, MOVEMENT]),
    ]
    digests = {accepted(decoder().decode(record(each))).content_digest for each in documents}
    assert len(digests) == len(documents)


@pytest.mark.parametrize(
    ("limits", "document", "expected"),
    [
        (Limits(max_movements=2), event(movements=[MOVEMENT] * 2), "ok"),
        (Limits(max_movements=2), event(movements=[MOVEMENT] * 3), "too_many_movements movements"),
        (Limits(max_text_length=3), movement(lot="abc"), "ok"),
        (Limits(max_text_length=3), movement(lot="abcd"), "text_too_long movements[0].lot"),
        (Limits(max_recorder_length=5), EVENT, "text_too_long recorder"),
        (Limits(max_id_length=2), EVENT, "text_too_long id"),
        (Limits(max_event_bytes=50), EVENT, "too_large"),
    ],
)
def test_limits(limits: Limits, document: Document, expected: str) -> None:
    """Every limit is a setting."""
    assert outcome(document, limits=limits) == expected


def test_no_number_becomes_text() -> None:
    """1 and "1" and 1.0 are three things; as resources they are equal."""
    assert values(decoder().decode(record(movement(lot="1"))))["lot"] == "1"
    assert values(decoder().decode(record(movement(lot="1.0"))))["lot"] == "1.0"
    assert values(decoder().decode(record(movement(quantity="1.0"))))["quantity"] == "1"
    assert values(decoder().decode(record(movement(quantity=1))))["quantity"] == "1"
