"""`register_explain()` and `tallystream explain`: one document from end to end, and what is not known of it."""

import json
from typing import Any

from psycopg.types.json import Jsonb

from tests.support.pipeline import TOPIC, Pipeline, line, movement, repost
from tests.support.program import run_tallystream
from tests.support.registers import Shop, element


def explained(pipeline: Pipeline, recorder: str) -> dict[str, Any]:
    """What the function says, as anybody's JSON."""
    found: dict[str, Any] = pipeline.value("SELECT register_explain('inventory', %s)", [recorder])
    return found


def sums(cell: dict[str, Any], *keys: str) -> list[float]:
    """The quantity in each of these parts of a cell."""
    return [float(cell[key]["quantity"]) for key in keys]


def test_a_document_is_shown_from_event_to_total(pipeline: Pipeline) -> None:
    """Events with their batches, the refused one, movements, and the numbers of whole cells, not only its own share."""
    pipeline.send(movement("r1", line(1, "5"), line(2, "1.250")), movement("r2", line(1, "100")))
    consumer = pipeline.consumer()
    first = consumer.apply()
    pipeline.send(
        movement("r1", line(1, "7"), period="2026-05-02T10:00:00Z"),
        movement("r1", line(1, "7"), period="2026-05-02T10:00:00Z"),
        movement("r1", line(9, "many")),
    )
    second = consumer.apply()

    found = explained(pipeline, "r1")
    assert (found["events_applied"], found["movements_count"], found["movements_by_sql"]) == (2, 3, 0)
    assert [(e["topic"], e["offset"], e["movements"], e["batch_id"], e["worker"]) for e in found["events"]] == [
        (TOPIC, 0, 2, first.batch_id, "worker"),
        (TOPIC, 2, 1, second.batch_id, "worker"),
    ]
    assert all(event["committed_at"] for event in found["events"])
    [letter] = found["dead_letters"]
    assert (letter["reason"], letter["path"], letter["offset"]) == ("not_a_number", "movements[0].quantity", 4)
    one, two = sorted(found["cells"], key=lambda cell: int(cell["dimensions"]["product"]))
    assert sums(one, "contributes", "balance") == [12, 112]
    assert sums(two, "contributes", "balance") == [1.25, 1.25]
    assert [(d["period"], float(d["turnover"]["quantity"])) for d in one["days"]] == [
        ("2026-04-18", 105),
        ("2026-05-02", 7),
    ]
    assert [float(m["turnover"]["quantity"]) for m in one["months"]] == [105, 7]
    assert [float(y["turnover"]["quantity"]) for y in one["years"]] == [112]
    assert [note.split(":")[0] for note in found["not_known"]] == ["duplicates and stale events that were skipped"]


def test_what_is_not_kept_is_named(pipeline: Pipeline) -> None:
    """An event whose movements were replaced is counted; where it came from is not known any more, and that is said."""
    pipeline.send(movement("r1", line(1, "5")), movement("r1", line(1, "6")), repost("r1", line(2, "1")))
    pipeline.consumer().apply()
    pipeline.rows(
        "SELECT register_post('inventory', %s)", [Jsonb({"recorder": "r1", "period": "2026-04-18", **line(3)})]
    )
    found = explained(pipeline, "r1")
    assert (found["events_applied"], [e["offset"] for e in found["events"]]) == (3, [2])
    assert found["movements_by_sql"] == 1
    assert "the offsets of applied events that were neither the last one nor left a movement" in found["not_known"]
    unknown = explained(pipeline, "r2")
    assert (unknown["events"], unknown["cells"], unknown["not_known"]) == ([], [], [])


def test_events_of_a_long_document_are_all_counted(pipeline: Pipeline) -> None:
    """Also those whose digests have left the recorder's own row."""
    pipeline.send(*(movement("r1", line(number)) for number in range(150)))
    pipeline.consumer().apply()
    found = explained(pipeline, "r1")
    assert (found["events_applied"], len(found["events"]), len(found["cells"])) == (150, 150, 150)
    assert pipeline.value("SELECT jsonb_array_length(register_explain('inventory', 'r1', 7) -> 'movements')") == 7


def test_registers_of_every_kind_are_explained(shop: Shop) -> None:
    """No balances, no days, high-write with deltas pending, recorders that are numbers."""
    shop.create("flow", kind="turnover", totals_period="month", recorder_type="bigint")
    shop.create("hot", high_write=True)
    shop.post([element("7", "2026-01-05", 1, None, quantity=2, amount=3)], "flow")
    shop.post([element("7", "2026-01-05", 1, "x", quantity="2.5", amount=3)], "hot")
    [flow] = shop.ask("SELECT register_explain('flow', '7') -> 'cells'")
    assert sorted(flow) == ["contributes", "dim_hash", "dimensions", "months", "movements", "years"]
    assert flow["dimensions"] == {"warehouse": 1, "lot": None}
    [hot] = shop.ask("SELECT register_explain('hot', '7') -> 'cells'")
    assert sums(hot, "contributes", "balance") == [2.5, 2.5]
    assert shop.refusal("SELECT register_explain('flow', 'seven')") == (
        "TS011",
        "register flow: 'seven' is no recorder of it",
    )
    assert shop.refusal("SELECT register_explain('flow', NULL)")[0] == "TS006"
    assert shop.refusal("SELECT register_explain('flows', '7')")[0] == "TS001"


def test_the_command_looks_in_every_register(shop: Shop) -> None:
    """A document may be in several; exact numbers in JSON, a table for people, exit code 1 when nobody knows it."""
    shop.create("flow", kind="turnover", recorder_type="bigint")
    shop.create("other")
    shop.post([element("7", "2026-01-05", 1, "x\x1b[31m", quantity="12345678901234.567")])
    shop.post([element("7", "2026-01-05", 1, "y", quantity=1)], "flow")
    env = {"TALLYSTREAM_POSTGRES_DSN": shop.database.dsn}
    found = json.loads(run_tallystream("explain", "7", "--json", env=env).check().out)
    assert [each["register"] for each in found] == ["flow", "stock"]
    assert found[1]["cells"][0]["balance"]["quantity"] == "12345678901234.567"
    shown = run_tallystream("explain", "7", "--register", "stock", env=env).check().out
    assert shown.startswith("7 in stock: 0 events applied\n")
    assert "1 movements, 1 of them posted by SQL, in 1 cells" in shown
    assert "balance now: amount 0.00, quantity 12345678901234.567" in shown
    assert "\x1b" not in shown
    assert run_tallystream("explain", "r9", env=env).check(1).err == "r9 is not known in any register\n"
    refused = run_tallystream("explain", "r9", "--register", "flow", env=env).check(2)
    assert refused.err.startswith("tallystream: register flow: 'r9' is no recorder of it")
