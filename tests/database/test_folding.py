"""Whoever writes movements, totals, balances and recorders follow; and no two cells are ever taken for one."""

import unicodedata
from collections.abc import Callable
from dataclasses import replace

import pytest

from ingest.domain.plans import Outcome
from ingest.domain.registers import Dimension, Kind, Register, Resource
from tests.support.events import EVERYTHING, INVENTORY
from tests.support.pipeline import Document, Pipeline, Row, line, movement, repost, unpost
from tests.support.postgres import SEARCH_PATH, Database

Pipelines = Callable[..., Pipeline]

COLUMNS = "recorder, period, warehouse, product, lot, quantity"


def by_hand(pipeline: Pipeline, *statements: str) -> None:
    """A person at a psql prompt, in one transaction."""
    with pipeline.database.connect(autocommit=False, options=SEARCH_PATH) as session:
        for statement in statements:
            session.execute(statement.encode())


def totals(pipeline: Pipeline, grain: str) -> list[Row]:
    """Period, product and quantity."""
    return pipeline.rows(f"SELECT period::text, product, quantity FROM inventory_turnovers_{grain} ORDER BY 1, 2")  # noqa: S608


@pytest.fixture
def stocked(pipeline: Pipeline) -> Pipeline:
    """Two documents in two months."""
    pipeline.send(
        movement("r1", line(1, "5"), line(2, "7", period="2026-05-01T00:00:00Z")),
        movement("r2", line(1, "2.125")),
    )
    pipeline.consumer().apply()
    return pipeline


def test_plain_inserts_and_deletes(stocked: Pipeline) -> None:
    """INSERT and DELETE by hand keep day, month, year, balance and recorders in step."""
    by_hand(
        stocked,
        f"INSERT INTO inventory_movements ({COLUMNS}) VALUES ('hand', '2026-04-01 00:00+00', 1, 1, 'A', 100),"  # noqa: S608
        " ('hand', '2026-05-31 23:59:59.999999+00', 1, 2, 'A', 10), ('r1', '2026-04-30 12:00+00', 1, 1, 'A', 1)",
        "DELETE FROM inventory_movements WHERE recorder = 'r2'",
    )
    assert totals(stocked, "day") == [
        ("2026-04-01", 1, 100),
        ("2026-04-18", 1, 5),
        ("2026-04-30", 1, 1),
        ("2026-05-01", 2, 7),
        ("2026-05-31", 2, 10),
    ]
    assert totals(stocked, "month") == [("2026-04-01", 1, 106), ("2026-05-01", 2, 17)]
    assert totals(stocked, "year") == [("2026-01-01", 1, 106), ("2026-01-01", 2, 17)]
    assert stocked.balances() == {(1, 1, "A"): 106, (1, 2, "A"): 17}
    stocked.check()


def test_copy_by_hand(stocked: Pipeline) -> None:
    """COPY is one statement: folded once, however many rows."""
    with (
        stocked.database.connect(options=SEARCH_PATH) as session,
        session.cursor() as cursor,
        cursor.copy(f"COPY inventory_movements ({COLUMNS}) FROM STDIN".encode()) as copy,
    ):
        for number in range(1000):
            copy.write_row((f"c{number % 7}", "2026-04-10 00:00+00", 1, number % 3, None, 1))
    balances = stocked.balances()
    assert [balances[1, product, None] for product in range(3)] == [334, 333, 333]
    stocked.check()


STATEMENTS = """
    INSERT INTO inventory_movements (recorder, period, warehouse, product, lot, quantity)
    SELECT recorder || '-copy', period, warehouse, product, lot, -quantity FROM inventory_movements;

    WITH gone AS (DELETE FROM inventory_movements WHERE recorder = 'r1' RETURNING *)
    INSERT INTO inventory_movements (recorder, period, warehouse, product, lot, quantity)
    SELECT 'moved', period, warehouse, product, lot, quantity FROM gone;

    MERGE INTO inventory_movements AS m USING (VALUES ('r1'), ('new')) AS v (recorder) ON m.recorder = v.recorder
    WHEN MATCHED THEN DELETE
    WHEN NOT MATCHED THEN
        INSERT (recorder, period, product, quantity) VALUES (v.recorder, '2026-04-02 00:00+00', 9, 1);

    INSERT INTO inventory_movements (recorder, period, product) SELECT 'r1', '2026-04-02 00:00+00', 1 WHERE false;

    DELETE FROM inventory_movements USING inventory_recorders AS r WHERE r.recorder = inventory_movements.recorder;

    DELETE FROM inventory_movements WHERE false
"""


@pytest.mark.parametrize("statement", STATEMENTS.split(";"))
def test_statements_of_every_form(stocked: Pipeline, statement: str) -> None:
    """INSERT … SELECT, data-changing WITH, MERGE and DELETE … USING are folded like any other."""
    by_hand(stocked, statement)
    stocked.check()


def test_many_statements_in_one_transaction(stocked: Pipeline) -> None:
    """Each is folded on its own, and a rolled back part leaves nothing."""
    insert = f"INSERT INTO inventory_movements ({COLUMNS}) VALUES ('h', '2026-04-02 00:00+00', 1, 1, 'A', 1)"  # noqa: S608
    by_hand(stocked, insert, "SAVEPOINT s", insert, "ROLLBACK TO s", insert, "DELETE FROM inventory_movements")
    assert stocked.balances() == {}
    stocked.check()


def test_a_document_posted_by_hand_is_known_to_the_stream(pipeline: Pipeline) -> None:
    """An unpost from the stream finds what was inserted by hand, in whichever partitions."""
    by_hand(
        pipeline,
        "SELECT _ensure_partitions('inventory', '{2026-01-01, 2026-09-01}')",
        f"INSERT INTO inventory_movements ({COLUMNS}) VALUES ('hand', '2026-01-15 00:00+00', 1, 1, 'A', 1),"  # noqa: S608
        " ('hand', '2026-09-15 00:00+00', 1, 1, 'A', 1)",
    )
    pipeline.check()
    pipeline.send(unpost("hand"))
    pipeline.consumer().apply()
    assert pipeline.count("inventory_movements") == 0
    assert pipeline.balances() == {}
    pipeline.check()


def test_nobody_is_believed_to_be_the_worker(stocked: Pipeline) -> None:
    """A batch's number in a row that a person inserts does not hide the row from its recorder."""
    for batch_id in (1, 99, -1):
        by_hand(
            stocked,
            f"INSERT INTO inventory_movements ({COLUMNS}, batch_id, event_offset)"  # noqa: S608
            f" VALUES ('forged', '2026-05-0{abs(batch_id) % 9 + 1} 00:00+00', 1, 1, 'A', 1, {batch_id}, 7)",
        )
    by_hand(
        stocked,
        f"INSERT INTO inventory_movements ({COLUMNS}, batch_id)"  # noqa: S608
        " VALUES ('r2', '2026-05-05 00:00+00', 1, 1, 'A', 1, 1), ('r2', '2026-05-06 00:00+00', 1, 1, 'A', 1, NULL)",
    )
    stocked.check()
    stocked.send(unpost("forged"), unpost("r2"))
    stocked.consumer("next").apply()
    assert stocked.balances() == {(1, 1, "A"): 5, (1, 2, "A"): 7}
    stocked.check()


def test_the_key_cannot_be_supplied(pipeline: Pipeline) -> None:
    """A cell's key is computed, whoever writes; a wrong one cannot be given."""
    with pytest.raises(Exception, match="cannot insert a non-DEFAULT value into column"):
        by_hand(
            pipeline,
            "INSERT INTO inventory_movements (recorder, period, dim_hash) VALUES ('r', '2026-01-01 00:00+00', 5)",
        )


TEXTS = [
    None,
    "",
    " ",
    "null",
    "NULL",
    "\\N",
    "\\\\N",
    "\\.",
    "A",
    "a",
    "A ",
    " A",
    "a|b",
    "a,b",
    "a;b",
    "a\tb",
    "a\nb",
    "a\rb",
    "a\\b",
    "a\\tb",
    "{a,b}",
    '"a"',
    "'a'",
    "1",
    "1.0",
    "1.00",
    "01",
    "é",
    unicodedata.normalize("NFD", "é"),
    "ß",
    "ss",
    "🛒",
    "\u200b",
    "\x01",
    "\x7f",
    "x" * 1000,
    "x" * 999,
]


@pytest.mark.scenario("X9")
def test_cells_that_differ_stay_apart(pipelines: Pipelines) -> None:
    """Null, separators, cases, blanks, escapes, compositions: every text is a cell and comes back as it was."""
    pairs = Register(
        "pairs", Kind.BALANCE, (Dimension("one", "text"), Dimension("two", "text")), (Resource("n", "int"),)
    )
    pipeline = pipelines([pairs])
    cells = [(text, None) for text in TEXTS] + [(None, text) for text in TEXTS[1:]] + [("a|", "b"), ("a", "|b")]
    lines = [{"one": one, "two": two, "n": number + 1} for number, (one, two) in enumerate(cells)]
    pipeline.send(movement("r1", *lines, register="pairs", id="one"))
    pipeline.send(*[movement(f"s{n}", row, register="pairs", id=f"{n}") for n, row in enumerate(lines)])
    pipeline.consumer().apply()
    assert pipeline.balances("pairs", "n") == {cell: 2 * (number + 1) for number, cell in enumerate(cells)}
    assert pipeline.count("pairs_balance_cache") == len(cells)
    pipeline.check()


def everything(**changes: object) -> Document:
    """A movement of `EVERYTHING`, the register that has a column of every type."""
    return {
        "d_smallint": 1,
        "d_int": 1,
        "d_bigint": 1,
        "d_text": "t",
        "d_varchar": "v",
        "d_uuid": "0b9f6c3e-7a51-4a0e-9d5b-1f2e3d4c5b6a",
        "d_date": "2026-04-18",
        "d_boolean": True,
        "d_numeric": "1.5",
        "d_timestamptz": "2026-04-18T10:00:00Z",
        "r_decimal": "1.000",
        "r_numeric": "0.1",
        "r_int": 1,
        "r_bigint": 1,
        "r_double": 0.1,
        "r_real": 0.5,
        **changes,
    }


ALIKE: list[tuple[Document, Document]] = [
    ({"d_numeric": "1.5"}, {"d_numeric": "1.5000"}),
    ({"d_numeric": 0}, {"d_numeric": "-0.0"}),
    ({"d_numeric": 100}, {"d_numeric": 1e2}),
    ({"d_uuid": "0b9f6c3e-7a51-4a0e-9d5b-1f2e3d4c5b6a"}, {"d_uuid": "0B9F6C3E-7A51-4A0E-9D5B-1F2E3D4C5B6A"}),
    ({"d_timestamptz": "2026-04-18T10:00:00Z"}, {"d_timestamptz": "2026-04-18T12:00:00.000+02:00"}),
]


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_cells_that_are_alike_are_one(pipelines: Pipelines, one: Document, other: Document) -> None:
    """However a value is written, 1.0 or 1.00, in capitals or with another offset, it is the same cell."""
    pipeline = pipelines([replace(EVERYTHING, kind=Kind.BALANCE)])
    pipeline.send(movement("r1", everything(**one), everything(**other), register="everything"))
    assert pipeline.consumer().apply().movements == 2
    assert pipeline.count("everything_balance_cache") == 1
    pipeline.check()


@pytest.mark.parametrize("column", [column.name for column in EVERYTHING.dimensions])
def test_null_is_a_value_of_its_own(pipelines: Pipelines, column: str) -> None:
    """For every type: null and the value are two cells, null and null are one."""
    pipeline = pipelines([replace(EVERYTHING, kind=Kind.BALANCE)])
    lines = [everything(), everything(**{column: None}), everything(**{column: None})]
    pipeline.send(movement("r1", *lines, register="everything"))
    pipeline.consumer().apply()
    assert sorted(pipeline.balances("everything", "r_int").values()) == [1, 2]
    pipeline.check()


@pytest.mark.parametrize("wide", ["double precision", "real"])
def test_floating_point_comes_back_to_zero(pipelines: Pipelines, wide: str) -> None:
    """Sums of resources with a floating point are exact: what was added and taken away leaves nothing behind."""
    register = Register("weights", Kind.BALANCE, (Dimension("k", "int"),), (Resource("w", wide),))
    pipeline = pipelines([register])
    consumer = pipeline.consumer()
    values = [0.1, 0.2, 0.3, 1e15, -7e-5, 3.3, 1e-9]
    for number, value in enumerate(values):
        pipeline.send(movement(f"r{number}", {"k": 1, "w": value}, register="weights"))
        consumer.apply()
        pipeline.check()
    by_hand(
        pipeline, "INSERT INTO weights_movements (recorder, period, k, w) VALUES ('h', '2026-04-01 00:00+00', 1, 0.7)"
    )
    pipeline.check()
    by_hand(pipeline, "DELETE FROM weights_movements WHERE recorder = 'h'")
    for number in (2, 0, 6, 1, 5):
        pipeline.send(unpost(f"r{number}", register="weights"))
        consumer.apply()
        pipeline.check()
    pipeline.send(unpost("r3", register="weights"), unpost("r4", register="weights"))
    consumer.apply()
    assert pipeline.balances("weights", "w") == {}
    assert pipeline.value("SELECT w FROM weights_balance_cache") == 0
    pipeline.check()


@pytest.mark.scenario("X5")
@pytest.mark.parametrize("value", ["'NaN'", "'Infinity'", "'-Infinity'", "NULL"])
@pytest.mark.parametrize("column", ["r_decimal", "r_numeric", "r_double", "r_real"])
def test_no_sum_is_poisoned(pipelines: Pipelines, column: str, value: str) -> None:
    """What is no finite number cannot be written by hand either: one would spoil every sum it is part of."""
    pipeline = pipelines([EVERYTHING])
    by_hand(pipeline, "SELECT _ensure_partitions('everything', '{2026-04-18}')")
    with pytest.raises(Exception, match=r"violates (check|not-null) constraint|overflow"):
        by_hand(
            pipeline,
            f"INSERT INTO everything_movements (recorder, period, {column})"  # noqa: S608
            f" VALUES ('r', '2026-04-18 12:00+00', {value})",
        )


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("totals_period", ["day", "month", "year"])
@pytest.mark.parametrize("partition_by", ["day", "year"])
def test_kinds_grains_and_partitions(pipelines: Pipelines, kind: Kind, totals_period: str, partition_by: str) -> None:
    """Every kind of register, with the totals it keeps and the partitions it has, is right at every commit."""
    register = replace(
        INVENTORY, kind=kind, totals_period=totals_period, partition_by=partition_by, time_zone="America/New_York"
    )
    pipeline = pipelines([register])
    consumer = pipeline.consumer()
    for number, period in enumerate(["2025-12-31T23:30:00Z", "2026-01-01T04:59:59.999999Z", "2026-01-01T05:00:00Z"]):
        pipeline.send(movement(f"r{number}", line(1, "1"), line(2, "3"), period=period))
    consumer.apply()
    pipeline.check()
    expected = [("2025-01-01", 1, 2), ("2025-01-01", 2, 6), ("2026-01-01", 1, 1), ("2026-01-01", 2, 3)]
    assert totals(pipeline, "year") == expected
    pipeline.send(repost("r1", line(2, "10"), period="2026-03-01T00:00:00Z"), unpost("r0"))
    consumer.apply()
    pipeline.check()
    assert totals(pipeline, "year") == [("2026-01-01", 1, 1), ("2026-01-01", 2, 13)]


@pytest.mark.parametrize(
    ("recorder_type", "recorders"),
    [
        ("int", [-(2**31), -1, 0, 9, 10, 2**31 - 1]),
        ("bigint", [-(2**63), 5, 40, 2**63 - 1]),
        ("uuid", ["0b9f6c3e-7a51-4a0e-9d5b-1f2e3d4c5b6a", "ffffffff-7a51-4a0e-9d5b-1f2e3d4c5b6a"]),
        ("text", ["1", "01", "É", "\\N", "a\tb", " ", "ł"]),
    ],
)
def test_recorders_of_every_type(pipelines: Pipelines, recorder_type: str, recorders: list[object]) -> None:
    """Added, recognised when they come again, replaced and removed, whatever names a document."""
    pipeline = pipelines([replace(INVENTORY, recorder_type=recorder_type)])
    consumer = pipeline.consumer()
    for _ in range(2):
        pipeline.send(*[movement(recorder, line(1, "1"), id="a") for recorder in recorders])  # type: ignore[arg-type]
        applied = consumer.apply()
        pipeline.check()
    assert applied.outcomes == {Outcome.DUPLICATE: len(recorders)}
    assert pipeline.count("inventory_recorders") == len(recorders)
    pipeline.send(*[repost(recorder, line(2, "1"), id="b") for recorder in recorders])  # type: ignore[arg-type]
    consumer.apply()
    assert pipeline.balances() == {(1, 2, "A"): len(recorders)}
    pipeline.send(*[unpost(recorder, id="c") for recorder in recorders])  # type: ignore[arg-type]
    consumer.apply()
    assert pipeline.count("inventory_movements") == 0
    pipeline.check()


@pytest.mark.parametrize("batch", [1, 50, 200])
def test_documents_with_very_many_events(pipelines: Pipelines, batch: int) -> None:
    """Older digests move to a table of their own; all 200 events of a document are recognised when they come again."""
    pipeline = pipelines()
    consumer = pipeline.consumer()
    documents = [movement("r1", line(1, "1"), id=f"e{number}") for number in range(200)]
    for again in (False, True):
        pipeline.send(*documents)
        outcomes: dict[Outcome, int] = {}
        while (waiting := consumer.batch(most=batch)).items:
            for outcome, count in consumer.apply(waiting).outcomes.items():
                outcomes[outcome] = outcomes.get(outcome, 0) + count
        assert outcomes == {Outcome.DUPLICATE if again else Outcome.APPLIED: 200}
    assert pipeline.count("inventory_recorder_events") >= 200 - 64
    assert pipeline.balances() == {(1, 1, "A"): 200}
    pipeline.check()


def test_every_event_is_found_in_the_journal(stocked: Pipeline) -> None:
    """Each movement tells the event it came from; what was written by hand came from none."""
    by_hand(
        stocked,
        f"INSERT INTO inventory_movements ({COLUMNS}) VALUES ('hand', '2026-04-01 00:00+00', 1, 1, 'A', 100)",  # noqa: S608
    )
    found = stocked.rows("SELECT recorder, topic, partition, event_offset, batch_id FROM inventory_journal ORDER BY 1")
    assert found == [
        ("hand", None, None, None, None),
        ("r1", "events", 0, 0, 1),
        ("r1", "events", 0, 0, 1),
        ("r2", "events", 0, 1, 1),
    ]


@pytest.mark.scenario("P19")
def test_golden_keys_are_this_servers(database: Database) -> None:
    """The keys of cells are the same on every server and in every release: stored ones stay valid."""
    with database.connect() as session:
        row = session.execute(
            "SELECT hash_record_extended(ROW(1::int, 42::int, 'A'::text COLLATE \"C\"), 0)"
        ).fetchone()
    assert row == (-1871201132023588884,)
