"""SQL, escapes and control characters in every value: stored literally, shown harmlessly, refused by name."""

import json

import psycopg
import pytest

from tests.support.pipeline import GROUP, PERIOD, Pipeline, line, movement
from tests.support.program import run_tallystream

HOSTILE = [
    "'; DROP TABLE _positions; --",
    "' OR '1'='1",
    "1); DELETE FROM inventory_movements; --",
    "$$; SELECT pg_sleep(9); $$",
    "%s %(name)s %% {schema} {0}",
    "\\N",
    "\\.",
    "\\",
    "a\tb\nc\rd",
    "\x1b[31mred\x1b[0m",
    '", "quantity": "999", "x": "',
    "__NULL__",
    "null",
    "\u202egnirts\u202c",
    "\N{PILE OF POO}",
    "E'\\\\x00'",
    "pg_catalog.pg_class",
    " leading and trailing ",
]
POSTED = '"period": "2026-04-18", "warehouse": 1, "product": 1, "amount": "0", '
UNSTORABLE = {
    "X2 dimension": (r'"recorder": "r", "quantity": 1, "lot": "a\u0000b"', "22P05"),
    "X2 recorder": (r'"recorder": "\u0000", "quantity": 1, "lot": "a"', "22P05"),
    "X3": (r'"recorder": "r", "quantity": 1, "lot": "\ud800"', "22P02"),
    "X4 exponent": ('"recorder": "r", "lot": "a", "quantity": 1e999999', "22003"),
    "X4 digits": (f'"recorder": "r", "lot": "a", "quantity": {"1" * 200_000}', "22003"),
    "X4 a huge number": ('"recorder": "r", "lot": "a", "quantity": 1e131071', "TS014"),
    "X4 forty digits": (f'"recorder": "r", "lot": "a", "quantity": {"1" * 40}', "TS014"),
    "X4 a tiny number": ('"recorder": "r", "lot": "a", "quantity": 1e-16000', "TS014"),
    "X5 NaN": ('"recorder": "r", "lot": "a", "quantity": "NaN"', "TS014"),
    "X5 infinity": ('"recorder": "r", "lot": "a", "quantity": "Infinity"', "TS014"),
    "X6": ('"recorder": "r", "lot": "a", "quantity": 0.30000000000000004', "TS014"),
}


@pytest.mark.scenario("S2")
def test_values_are_values(pipeline: Pipeline) -> None:
    """By the stream and by SQL, as recorder, id, dimension and header: each comes back as it went in."""
    for number, text in enumerate(HOSTILE):
        event = movement(f"{text}{number}", line(number, "1", lot=text), id=text)
        pipeline.send(event, headers=((text, text.encode()),))
    pipeline.consumer().apply()
    for number, text in enumerate(HOSTILE):
        element = {"recorder": f"posted {text}", "period": PERIOD, **line(number, "2", lot=text)}
        assert pipeline.value("SELECT register_post('inventory', %s)", [json.dumps(element)]) == 1
    assert pipeline.balances() == {(1, number, text): 3 for number, text in enumerate(HOSTILE)}
    recorders = {recorder for (recorder,) in pipeline.rows("SELECT recorder FROM inventory_recorders")}
    assert recorders == {f"{text}{n}" for n, text in enumerate(HOSTILE)} | {f"posted {text}" for text in HOSTILE}
    for text in HOSTILE:
        found = pipeline.value("SELECT inventory_balance(%s) ->> 'quantity'", [json.dumps({"lot": text})])
        assert found == "3.000"
    pipeline.check()


@pytest.mark.scenario("S13")
def test_no_event_speaks_to_the_terminal(pipeline: Pipeline) -> None:
    """What refused events say is shown with its control characters as escapes, and a line stays one line."""
    wild = "\x1b]0;owned\x07\r\nlevel=error event=forged \x1b[2J"
    pipeline.send(movement(wild, {wild: 1, **line(1)}), movement("r", line(1), register=wild))
    pipeline.consumer().apply()
    env = {"TALLYSTREAM_POSTGRES_DSN": pipeline.database.dsn, "TALLYSTREAM_GROUP": GROUP}
    for command in (["dead-letters", "list"], ["dead-letters", "retry", "--all"], ["status"], ["positions", "list"]):
        done = run_tallystream(*command, env=env)
        assert not any(character in done.out + done.err for character in "\x1b\x07\r"), command
        assert "\nlevel=error" not in done.out + done.err
    assert len(run_tallystream("dead-letters", "list", env=env).check().out.splitlines()) == 3


@pytest.mark.scenario("X2", "X3", "X4", "X5", "X6")
@pytest.mark.parametrize(("data", "sqlstate"), UNSTORABLE.values(), ids=UNSTORABLE.keys())
def test_poison_posted_by_sql(pipeline: Pipeline, data: str, sqlstate: str) -> None:
    """PostgreSQL refuses what no jsonb can be, the product what a column does not hold exactly; nothing is written."""
    with pipeline.database.connect(options="-c search_path=accum") as session, pytest.raises(psycopg.Error) as refused:
        session.execute("SELECT register_post('inventory', %s::jsonb)", ["{" + POSTED + data + "}"])
    assert refused.value.sqlstate == sqlstate
    assert pipeline.count("inventory_movements") == 0
