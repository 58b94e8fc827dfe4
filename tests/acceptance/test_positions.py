"""`tallystream positions` with a running worker: what an operator sees, moves, stops and resumes on a real broker."""

import json

import pytest

from tests.acceptance.test_commands import INVENTORY, event
from tests.support.stream import Stream

pytestmark = [pytest.mark.slow]


def listed(stream: Stream, code: int = 0) -> dict[int, dict[str, object]]:
    """The positions by partition."""
    rows = json.loads(stream.run("positions", "list", "--json").check(code).out)
    return {row["partition"]: row for row in rows}


def keyed(stream: Stream, values: list[bytes]) -> None:
    """Records of one key, so of one partition."""
    stream.produce_keyed((b"receipt:1", value) for value in values)


def test_a_position_is_moved_under_a_running_worker(stream: Stream) -> None:
    """The idle worker notices, reads again, and applies nothing twice; the move is in the history with its reason."""
    stream.declare(INVENTORY)
    worker = stream.worker()
    keyed(stream, [event(1, id=f"e{n}", recorder="receipt:1") for n in range(20)])
    stream.wait_until_read()
    ((number, row),) = [(n, row) for n, row in listed(stream).items() if row["next_offset"]]
    assert (row["log_start"], row["log_end"], row["lag_records"], row["problem"]) == (0, 20, 0, None)
    where = (stream.topic, str(number))
    refused = stream.run("positions", "set", *where, "--to", "5", "--reason", "look again").check(2)
    assert "offsets 5..19 are read again" in refused.err
    assert "nothing was moved: there is nobody to ask; say --yes" in refused.err
    outside = stream.run("positions", "set", *where, "--to", "99", "--reason", "why", "--yes").check(2)
    assert "offset 99 is outside the log" in outside.err
    moved = stream.run("positions", "set", *where, "--to", "5", "--reason", "look again", "--yes").check()
    assert f"topic {stream.topic} partition {number}: 20 -> 5, 0 offsets skipped" in moved.out
    worker.wait_until(lambda: stream.counts()["duplicates"] == 15, what="the events are read again")
    (entry,) = json.loads(stream.run("positions", "history", "--json").check().out)
    assert (entry["from_offset"], entry["to_offset"], entry["reason"]) == (20, 5, "look again")
    assert "look again" in stream.run("positions", "history").check().out
    assert stream.run("verify").check().out.startswith("inventory: right")
    stream.stop()


def test_a_broken_producer_stops_its_partition_alone(stream: Stream) -> None:
    """The log says why; status and list exit with 1; a person resumes, and the worker goes on by itself."""
    stream.extra["TALLYSTREAM_MAX_DEAD_LETTERS_IN_A_ROW"] = "10"
    stream.declare(INVENTORY)
    worker = stream.worker()
    keyed(stream, [b"broken"] * 14 + [event(1)])
    worker.wait_for_log(event="partition stopped")
    assert stream.run("status").code == 1
    (row,) = [row for row in listed(stream, 1).values() if row["problem"]]
    assert (row["next_offset"], row["dead_letters_in_a_row"], row["lag_records"]) == (10, 10, 5)
    said = str(row["problem"])
    assert "the 10 events before it were refused, 10 of them for not_json" in said
    command = said[said.index("tallystream positions resume") :].replace("'...'", "mended").split()[1:]
    assert "10 dead letters in a row forgiven" in stream.run(*command).check().out
    stream.wait_until_read()
    assert stream.counts() == {"applied": 1, "duplicates": 0, "stale": 0, "dead_letters": 14}
    listed(stream)
    stream.stop()
