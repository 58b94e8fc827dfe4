"""The fixture that runs the installed command keeps what it promises."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import program as support
from tests.support.program import Program, run_tallystream

SCRIPT = """\
import json, os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (print(json.dumps({"event": "stopping"}), flush=True), sys.exit(7)))
print("not a log line", os.environ.get("GIVEN"), flush=True)
for count in range(3):
    print(json.dumps({"event": "batch applied", "count": count}), file=sys.stderr, flush=True)
if "end" in sys.argv:
    sys.exit(3)
time.sleep(60)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that says known things, so that the fixture is what is tested."""
    command = tmp_path / "stand-in"
    command.write_text(f"#!{sys.executable}\n{SCRIPT}", encoding="utf-8")
    command.chmod(0o755)
    monkeypatch.setattr(support, "COMMAND", command)


@pytest.mark.usefixtures("stand_in")
def test_logs_are_awaited_and_collected(program: Callable[..., Program]) -> None:
    """A log entry is found by its values; SIGTERM gives the exit code and what was said last."""
    running = program("run", env={"GIVEN": "by the test"})
    assert running.wait_for_log(event="batch applied", count=2)["count"] == 1
    assert "not a log line by the test" in running.lines
    assert running.terminate() == 7
    assert running.logged(event="stopping")


@pytest.mark.usefixtures("stand_in")
def test_a_killed_program_says_so(program: Callable[..., Program]) -> None:
    """kill -9 shows as the signal's negative number."""
    running = program("run")
    running.wait_for_log(event="batch applied")
    running.kill()
    assert running.code == -9


@pytest.mark.usefixtures("stand_in")
def test_waiting_ends_with_the_program(program: Callable[..., Program]) -> None:
    """Nobody waits for a log line of a program that has ended; the failure shows what it said."""
    running = program("run", "end")
    with pytest.raises(AssertionError, match=r"ended with 3 before log entry 1 with .*never"):
        running.wait_for_log(event="never")


@pytest.mark.usefixtures("stand_in")
def test_a_command_is_run_to_its_end() -> None:
    """Exit code, both streams, and the expected code checked."""
    done = run_tallystream("end")
    assert (done.code, "not a log line" in done.out, "batch applied" in done.err) == (3, True, True)
    with pytest.raises(AssertionError, match="exit code 3, not 0"):
        done.check()


def test_the_developers_own_settings_stay_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No TALLYSTREAM_ variable of the environment reaches the program, except those of the test."""
    monkeypatch.setenv("TALLYSTREAM_TOPICS", "mine")
    assert "TALLYSTREAM_TOPICS" not in support.environment()
    assert support.environment({"TALLYSTREAM_TOPICS": "the test's"})["TALLYSTREAM_TOPICS"] == "the test's"
