"""The poison corpus: bytes that broke other consumers. Each is refused with its reason, and the next record is read.

The names are those of the project's list of faults: X1 to X10, and X13.
"""

import json
import time
import tracemalloc

import pytest

from ingest.domain.messages import Event, Limits, Refusal
from tests.support.events import MOVEMENT, Document, accepted, decoder, event, movement, record, refused, values
from tests.support.poison import GOOD, LARGE, POISON, with_quantity


@pytest.mark.scenario("X1", "X2", "X3", "X4", "X5", "X6", "X7", "X8", "X13")
@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in POISON], ids=[row[0] for row in POISON])
def test_poison(value: bytes | None, expected: str) -> None:
    """Refused with its reason, and the same decoder reads the next record."""
    shared = decoder()
    assert refused(shared.decode(record(value, b"receipt:1"))) == expected
    accepted(shared.decode(record(GOOD, b"receipt:1")))


@pytest.mark.scenario("X5")
@pytest.mark.parametrize("written", ["-0", "-0.0", '"-0"', '"-0.000"', "0", "0e999999999999", "-0E-5"])
def test_x5_zero_has_no_sign(written: str) -> None:
    """Minus zero is zero, and never a cell's second spelling of it."""
    assert values(decoder().decode(record(with_quantity(written))))["quantity"] == "0"


@pytest.mark.scenario("X6")
@pytest.mark.parametrize("written", ["0.1", "0.3", "1e-3", "123456789012345.678", "1.10000000000000000000"])
def test_x6_no_float_in_between(written: str) -> None:
    """A JSON number means its digits, not the nearest binary fraction."""
    exact = values(decoder().decode(record(with_quantity(written))))["quantity"]
    as_text = values(decoder().decode(record(with_quantity(f'"{written}"'))))["quantity"]
    assert exact == as_text
    assert exact in {"0.1", "0.3", "0.001", "123456789012345.678", "1.1"}


@pytest.mark.scenario("X9")
def test_x9_distinct_keys_stay_distinct() -> None:
    """Delimiters, the word null, blanks, cases and compositions never merge two cells."""
    lots = [
        None,
        "",
        " ",
        "null",
        "NULL",
        "__NULL__",
        "\\N",
        "A",
        "a",
        "A ",
        " A",
        "A|B",
        "A,B",
        "\u00e9",
        "e\u0301",
        "1",
        "1.0",
    ]
    shared = decoder()
    decoded = {values(shared.decode(record(movement(lot=lot))))["lot"] for lot in lots}
    assert decoded == set(lots)


@pytest.mark.scenario("X10")
@pytest.mark.parametrize(
    ("count", "expected"), [(0, "no_movements movements"), (20_000, "ok"), (100_001, "too_many_movements movements")]
)
def test_x10_number_of_movements(count: int, expected: str) -> None:
    """None is too few for a movement event, and there is an upper limit as well."""
    result = decoder(limits=Limits(max_event_bytes=20_000_000)).decode(record(event(movements=[MOVEMENT] * count)))
    assert (refused(result) if isinstance(result, Refusal) else "ok") == expected


@pytest.mark.scenario("X10")
def test_x10_same_cell_ten_thousand_times() -> None:
    """Movements of one cell stay movements of their own: adding up is the database's."""
    decoded = accepted(decoder().decode(record(event(movements=[MOVEMENT] * 10_000))))
    assert len(decoded.movements) == 10_000


@pytest.mark.scenario("X7")
@pytest.mark.parametrize(("value", "expected"), [row[1:] for row in LARGE], ids=[row[0] for row in LARGE])
def test_x7_large_events_cost_in_proportion(value: bytes, expected: str) -> None:
    """What is large takes memory in proportion to itself, and no time that a consumer group would notice."""
    shared = decoder()
    message = record(value, b"receipt:1")
    started = time.process_time()
    assert refused(shared.decode(message)).startswith(expected)
    assert time.process_time() - started < 5
    tracemalloc.start()
    try:
        shared.decode(message)
        assert tracemalloc.get_traced_memory()[1] < 60 * len(value)
    finally:
        tracemalloc.stop()
    accepted(shared.decode(record(GOOD, b"receipt:1")))


@pytest.mark.parametrize("document", [[], [[]], "text", 5, 5.5, None, True, {"a": {}}])
def test_any_json_is_a_result(document: Document) -> None:
    """Whatever JSON it is, it is an event or a refusal."""
    result = decoder().decode(record(json.dumps(document)))
    assert isinstance(result, Event | Refusal)
