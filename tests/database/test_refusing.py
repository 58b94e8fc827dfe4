"""What only the database can refuse: exactly the offender becomes a dead letter, and the rest is applied."""

from collections import Counter
from collections.abc import Callable

import pytest

from ingest.domain.messages import Reason
from ingest.domain.plans import Outcome
from ingest.domain.registers import Dimension, Kind, Register, Resource
from ingest.errors import TransientError
from ingest.postgres.dead_letters import list_dead_letters, show_dead_letter
from tests.support.pipeline import Document, Pipeline, line, movement, repost, unpost
from tests.support.sessions import holding

Pipelines = Callable[..., Pipeline]

HUGE = 2**63 - 1
COUNTERS = Register(
    "counters", Kind.BALANCE, (Dimension("name", "text"),), (Resource("hits", "bigint"), Resource("ratio", "real"))
)

LETTERS = "SELECT event_offset, reason, sqlstate, recorder FROM _dead_letters ORDER BY event_offset"


def hit(recorder: str, name: str = "n", hits: int = 1, **changes: object) -> Document:
    """A movement of `COUNTERS`."""
    return movement(recorder, {"name": name, "hits": hits, "ratio": "0"}, register="counters", **changes)


def letters(pipeline: Pipeline) -> list[tuple[int, str, str | None, str | None]]:
    """Offset, reason, SQLSTATE and recorder of each dead letter."""
    return pipeline.rows(LETTERS)


@pytest.mark.scenario("W14", "P17")
@pytest.mark.parametrize("bad", [{0}, {39}, {17}, {3, 4, 5}, {0, 13, 39}, set(range(40)), set(range(0, 40, 2))])
def test_exactly_the_offenders_are_refused(pipelines: Pipelines, bad: set[int]) -> None:
    """Movements that are fine in themselves but overflow a total (22003) are refused, wherever they are."""
    pipeline = pipelines([COUNTERS])
    consumer = pipeline.consumer()
    pipeline.send(hit("first", hits=HUGE - 40))
    consumer.apply()
    pipeline.send(*[hit(f"r{n}", hits=HUGE if n in bad else 1) for n in range(40)])
    applied = consumer.apply()
    assert applied.outcomes == Counter({Outcome.APPLIED: 40 - len(bad), Outcome.DEAD_LETTER: len(bad)})
    assert applied.reasons == {Reason.REFUSED_BY_DATABASE: len(bad)}
    assert letters(pipeline) == [(n + 1, "refused_by_database", "22003", f"r{n}") for n in sorted(bad)]
    assert pipeline.balances("counters", "hits") == {("n",): HUGE - len(bad)}
    assert pipeline.count("counters_movements") == 41 - len(bad)
    pipeline.check()


def test_the_search_is_bounded(pipelines: Pipelines) -> None:
    """One offender among many costs the logarithm of the batch in tries, and a batch of offenders a few tries each."""
    pipeline = pipelines([COUNTERS])
    consumer = pipeline.consumer()
    pipeline.send(hit("first", hits=1))
    consumer.apply()
    pipeline.send(*[hit(f"a{n}", hits=HUGE if n == 300 else 0) for n in range(512)])
    consumer.apply()
    tries = pipeline.value("SELECT last_value FROM _batch_id")
    assert tries <= 1 + 2 + 9 + 1 + 3
    pipeline.send(*[hit(f"b{n}", hits=HUGE) for n in range(50)])
    assert consumer.apply().outcomes[Outcome.DEAD_LETTER] == 50
    assert pipeline.value("SELECT last_value FROM _batch_id") - tries <= 50 * 5
    pipeline.check()


def test_other_events_of_the_offenders_document_are_applied(pipelines: Pipelines) -> None:
    """An event is refused, not its document: what came before and what comes after it counts."""
    pipeline = pipelines([COUNTERS])
    consumer = pipeline.consumer()
    pipeline.send(hit("other", hits=HUGE - 10))
    pipeline.send(hit("r", hits=1, id="good"), hit("r", hits=HUGE, id="bad"), hit("r", hits=2, id="later"))
    pipeline.send({"register": "counters", "recorder": "r"})
    consumer.apply()
    assert letters(pipeline) == [
        (2, "refused_by_database", "22003", "r"),
        (4, "missing_key", None, "r"),
    ]
    assert pipeline.balances("counters", "hits") == {("n",): HUGE - 7}
    pipeline.send(hit("r", hits=HUGE, id="bad"), hit("r", hits=1, id="good"))
    assert consumer.apply().outcomes == {Outcome.DEAD_LETTER: 1, Outcome.DUPLICATE: 1}
    pipeline.check()


def test_what_cancels_itself_within_a_batch_is_no_offence(pipelines: Pipelines) -> None:
    """Sums are taken per batch: an overflow that the next event takes back was never there."""
    pipeline = pipelines([COUNTERS])
    consumer = pipeline.consumer()
    pipeline.send(hit("a", hits=HUGE), hit("b", hits=HUGE), unpost("b", register="counters"), hit("c", hits=-HUGE))
    assert consumer.apply().outcomes == {Outcome.APPLIED: 4}
    assert pipeline.balances("counters", "hits") == {}
    pipeline.check()


def test_a_constraint_of_the_owners_own(pipeline: Pipeline) -> None:
    """A CHECK that the owner adds decides about events like any other rule; existing documents keep what they had."""
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", {"warehouse": 1, "product": 1, "lot": None, "quantity": 5, "amount": 0}))
    consumer.apply()
    with pipeline.database.connect() as owner:
        owner.execute("ALTER TABLE accum.inventory_movements ADD CONSTRAINT few CHECK (quantity < 100)")
    lines = [{"warehouse": 1, "product": 1, "lot": None, "quantity": quantity, "amount": 0} for quantity in (7, 100)]
    pipeline.send(repost("r1", *lines), movement("r2", lines[0]))
    applied = consumer.apply()
    assert applied.outcomes == {Outcome.APPLIED: 1, Outcome.DEAD_LETTER: 1}
    assert letters(pipeline) == [(1, "refused_by_database", "23514", "r1")]
    assert pipeline.balances() == {(1, 1, None): 12}
    pipeline.check()


@pytest.mark.scenario("S10")
def test_a_refusal_says_why_without_quoting_the_row(pipelines: Pipelines) -> None:
    """The detail is PostgreSQL's message; its DETAIL, which quotes whole rows, is left out."""
    pipeline = pipelines([COUNTERS])
    with pipeline.database.connect() as owner:
        owner.execute("ALTER TABLE accum.counters_movements ADD CONSTRAINT no_secrets CHECK (name <> 'IBAN DE89')")
    pipeline.send(hit("r", name="IBAN DE89"))
    pipeline.consumer().apply()
    detail = pipeline.value("SELECT detail FROM _dead_letters")
    assert "no_secrets" in detail
    assert "DE89" not in detail


def test_a_detached_partition_refuses_its_events_and_no_others(pipeline: Pipeline) -> None:
    """Movements of periods that were put away are refused by name; once the table is gone, it is made anew."""
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line_in("2026-03-05"), period="2026-03-05T12:00:00Z"))
    pipeline.send(movement("r2", line_in("2026-04-05"), period="2026-04-05T12:00:00Z"))
    consumer.apply()
    with pipeline.database.connect(options="-c search_path=accum") as owner:
        owner.execute("ALTER TABLE inventory_movements DETACH PARTITION inventory_movements_2026_03")
    pipeline.send(movement("r3", line_in("2026-03-06"), period="2026-03-06T12:00:00Z"))
    pipeline.send(movement("r4", line_in("2026-04-06"), period="2026-04-06T12:00:00Z"))
    assert consumer.apply().outcomes == {Outcome.APPLIED: 1, Outcome.DEAD_LETTER: 1}
    assert letters(pipeline) == [(2, "refused_by_database", "TS031", "r3")]
    assert "inventory_movements_2026_03 is no partition" in pipeline.value("SELECT detail FROM _dead_letters")
    with pipeline.database.connect(options="-c search_path=accum") as owner:
        owner.execute("DROP TABLE inventory_movements_2026_03")
    pipeline.send(movement("r5", line_in("2026-03-07"), period="2026-03-07T12:00:00Z"))
    assert consumer.apply().outcomes == {Outcome.APPLIED: 1}


def line_in(day: str) -> Document:
    """A movement of `inventory` in a lot."""
    return {"warehouse": 1, "product": 1, "lot": day, "quantity": 1, "amount": 0}


@pytest.mark.scenario("W11", "P14")
def test_a_passing_failure_refuses_nothing(pipelines: Pipelines) -> None:
    """A lock that is not given in time is no reason to refuse an event, also while an offender is looked for."""
    pipeline = pipelines([COUNTERS])
    consumer = pipeline.consumer()
    pipeline.send(hit("first", hits=HUGE))
    consumer.apply()
    pipeline.send(hit("r0", hits=0), hit("r1", hits=1))
    hasty = pipeline.store("hasty", lock_timeout_ms=100)
    batch = consumer.batch()
    with (
        holding(pipeline.database, "SELECT 1 FROM counters_balance_cache FOR UPDATE"),
        pytest.raises(TransientError, match="55P03"),
    ):
        hasty.apply(batch, pipeline.registry)
    assert letters(pipeline) == []
    assert consumer.apply().outcomes == {Outcome.APPLIED: 1, Outcome.DEAD_LETTER: 1}
    pipeline.check()


RECORDS = [
    (b"", None),
    (None, None),
    (b"\x00\x01\xff{", b"\x00key\xff"),
    (b'{"id": "a\\u0000b"}', b""),
    ("\ud83d\ude00 \\ud800".encode("utf-8", "surrogatepass"), b"k"),
    (bytes(range(256)), bytes(range(255, -1, -1))),
]
HEADERS = (("h", b"1"), ("h", None), ("h", b"\x00\xff"), ("", b""), ("nul\0in name", b"x"), ("\udcff", b"y"))


@pytest.mark.scenario("B21")
def test_refused_records_are_kept_byte_for_byte(pipeline: Pipeline) -> None:
    """Key, value and headers are as they were, NUL bytes, nothing at all and repeated names included."""
    for value, key in RECORDS:
        pipeline.send(value, key=key, headers=HEADERS)
    assert pipeline.consumer().apply().outcomes == {Outcome.DEAD_LETTER: len(RECORDS)}
    for number, (value, key) in enumerate(RECORDS):
        shown = show_dead_letter(pipeline.access, number + 1)
        assert (shown["event_value"], shown["event_key"]) == (value, key)
        assert shown["header_values"] == [content for _, content in HEADERS]
        # PostgreSQL has no text for these two; they stay visible.
        assert shown["header_names"] == ["h", "h", "h", "", "nul\\u0000in name", "\\udcff"]
        assert (shown["topic"], shown["partition"], shown["event_offset"]) == ("events", 0, number)
    pipeline.check()


@pytest.mark.parametrize("timestamp_ms", [None, -1, 0, 1_776_000_000_000_000, 2**63 - 1, -(2**63)])
def test_a_records_time_may_be_anything(pipeline: Pipeline, timestamp_ms: int | None) -> None:
    """Producers write what they like there, microseconds for one; no number of theirs stops a partition."""
    pipeline.send(movement("r1", line_in("a")), b"bad", timestamp_ms=timestamp_ms)
    consumer = pipeline.consumer()
    assert consumer.apply().outcomes == {Outcome.APPLIED: 1, Outcome.DEAD_LETTER: 1}
    known = pipeline.value("SELECT event_at IS NOT NULL FROM _dead_letters")
    assert known is (timestamp_ms in {-1, 0})
    pipeline.check()


def test_a_record_that_is_refused_again_keeps_its_row(pipeline: Pipeline) -> None:
    """A position that was moved back makes no second dead letter of one record; the row has the present reason."""
    consumer = pipeline.consumer()
    pipeline.send(b"bad", movement("r1", line_in("a"), register="later"))
    consumer.apply()
    assert [row[:2] for row in letters(pipeline)] == [(0, "not_json"), (1, "unknown_register")]
    with pipeline.database.connect() as owner:
        owner.execute("UPDATE accum._positions SET next_offset = 0")
        owner.execute('SELECT accum.register_create(\'later\', \'[{"name": "x", "type": "int"}]\', \'{"y": "int"}\')')
    pipeline.reload()
    consumer.claim()
    consumer.apply()
    assert [row[:2] for row in letters(pipeline)] == [(0, "not_json"), (1, "unknown_column")]


def test_lists_are_bounded_and_filtered(pipeline: Pipeline) -> None:
    """The newest come first, by state, reason and register, at most as many as asked for."""
    pipeline.send(*[b"bad"] * 5, *[movement(f"r{n}", register="nobody") for n in range(3)])
    pipeline.consumer().apply()

    def listed(**wanted: object) -> list[int]:
        asked = {"state": None, "reason": None, "register": None, "most": 100, **wanted}
        return [letter.event_offset for letter in list_dead_letters(pipeline.access, **asked)]  # type: ignore[arg-type]

    assert listed() == [7, 6, 5, 4, 3, 2, 1, 0]
    assert listed(most=2) == [7, 6]
    assert listed(reason="not_json", most=2) == [4, 3]
    assert listed(register="nobody") == [7, 6, 5]
    assert listed(state="retried") == []


def test_two_cells_with_one_key_are_never_added_up(pipelines: Pipelines) -> None:
    """Where a row under a cell's key is of another cell, the event is refused and the row stays as it is."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    pipeline.send(movement("r1", line(1, "5")))
    consumer.apply()
    with pipeline.database.connect_as_admin() as admin:
        admin.execute("SET session_replication_role = replica")
        admin.execute("UPDATE accum.inventory_balance_cache SET product = 2")
    pipeline.send(movement("r2", line(1, "7")))
    assert consumer.apply().outcomes == {Outcome.DEAD_LETTER: 1}
    assert pipeline.value("SELECT sqlstate FROM _dead_letters") == "TS021"
    assert pipeline.value("SELECT quantity FROM inventory_balance_cache") == 5
