"""The installed command, run as a user runs it: a process with an environment, logs on stderr, and an exit code.

    done = run_tallystream("settings", "--json", env={...}).check()     # a command that ends by itself

    worker = program("run", env={...})                                  # one that does not; the fixture ends it
    worker.wait_for_log(event="batch applied")
    worker.kill()

Nothing of the developer's own environment reaches it: no TALLYSTREAM_ variable, no settings file of the working folder.
The owner of a test's database may run workers; the tests of roles say otherwise.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.waiting import wait_until

COMMAND = Path(sys.executable).with_name("tallystream")
COMMAND_TIMEOUT_S = 120
WAIT_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60

Log = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    arguments: tuple[str, ...]
    code: int
    out: str
    err: str

    def check(self, code: int = 0) -> "Done":
        """Itself, when the exit code is the expected one."""
        assert self.code == code, (
            f"tallystream {' '.join(self.arguments)}: exit code {self.code}, not {code}\n{self.out}\n{self.err}"
        )
        return self


def small_batches(events: int) -> dict[str, str]:
    """Settings of a worker whose batches stay small, so that a test meets many of them."""
    return {"TALLYSTREAM_BATCH_MAX_EVENTS": str(events), "TALLYSTREAM_BATCH_GROWTH": "10"}


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's, without what would change the program's behaviour, with JSON logs and what the test says."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("TALLYSTREAM_", "KAFKA_", "PG"))}
    ours = {"TALLYSTREAM_LOG_FORMAT": "json", "TALLYSTREAM_ALLOW_PRIVILEGED_ROLE": "true"}
    return {**clean, **ours, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", **(env or {})}


def run_tallystream(
    *arguments: str,
    env: Mapping[str, str] | None = None,
    stdin: str | None = None,
    timeout_s: float = COMMAND_TIMEOUT_S,
    folder: Path | None = None,
) -> Done:
    """Runs the command to its end, in an empty folder unless one is given."""
    with tempfile.TemporaryDirectory() as empty:
        done = subprocess.run(
            [COMMAND, *arguments],
            check=False,
            input=stdin or "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=environment(env),
            cwd=folder or empty,
        )
    return Done(arguments, done.returncode, done.stdout, done.stderr)


class Program:
    """The command running in the background."""

    def __init__(
        self, *arguments: str, env: Mapping[str, str] | None = None, inside: Sequence[str] = (), folder: Path
    ) -> None:
        """`inside` is a command line that ends by running what follows it."""
        self.arguments = arguments
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [*inside, COMMAND, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(env),
            cwd=folder,
        )
        streams = (self._process.stdout, self._process.stderr)
        self._readers = [threading.Thread(target=self._collect, args=(stream,), daemon=True) for stream in streams]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def code(self) -> int | None:
        """The exit code; none while it runs; negative when a signal ended it."""
        return self._process.poll()

    @property
    def logs(self) -> list[Log]:
        """The lines that are JSON objects, in the order in which they came."""
        return [log for line in list(self.lines) if (log := _parsed(line)) is not None]

    def logged(self, **expected: object) -> list[Log]:
        """The log entries that have these values."""
        return [log for log in self.logs if expected.items() <= log.items()]

    def wait_for_log(self, *, count: int = 1, timeout_s: float = WAIT_TIMEOUT_S, **expected: object) -> Log:
        """Waits for the count-th log entry that has these values; fails at once when the program has ended."""
        self.wait_until(lambda: len(self.logged(**expected)) >= count, timeout_s, f"log entry {count} with {expected}")
        return self.logged(**expected)[count - 1]

    def wait_until(self, condition: Callable[[], object], timeout_s: float = WAIT_TIMEOUT_S, what: str = "") -> None:
        """Waits for anything at all while the program runs."""
        ended = False

        def look() -> bool:
            nonlocal ended
            ended = self.code is not None  # before the condition: what it did last still counts
            return bool(condition()) or ended

        try:
            wait_until(look, timeout_s, what or "the condition")
        except TimeoutError as error:
            message = f"{error}; tallystream {' '.join(self.arguments)} said:\n{self.tail()}"
            raise TimeoutError(message) from None
        if ended:
            self._join()
            assert condition(), f"{self!r} ended with {self.code} before {what or 'the condition'}:\n{self.tail()}"

    def terminate(self, timeout_s: float = STOP_TIMEOUT_S) -> int:
        """SIGTERM, as Kubernetes does it; the exit code."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """kill -9."""
        self._process.kill()
        self.wait(STOP_TIMEOUT_S)

    def pause(self) -> None:
        """SIGSTOP: to Kafka and PostgreSQL it looks dead, until `resume`."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def wait(self, timeout_s: float = WAIT_TIMEOUT_S) -> int:
        """The exit code, once it has ended by itself."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            message = f"{self!r} has not ended within {timeout_s} s:\n{self.tail()}"
            raise TimeoutError(message) from None
        self._join()
        return code

    def tail(self, count: int = 50) -> str:
        return "\n".join(self.lines[-count:])

    def close(self) -> None:
        """Ends it, whatever it does."""
        if self.code is None:
            self.kill()
        self._join()

    def __repr__(self) -> str:
        return f"tallystream {' '.join(self.arguments)} (pid {self.pid})"

    def _join(self) -> None:
        for reader in self._readers:
            reader.join(STOP_TIMEOUT_S)

    def _collect(self, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.lines.append(line.rstrip("\n"))


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Program]]:
    """Starts `tallystream …` in the background; what it printed is in the report when the test fails."""
    started: list[Program] = []

    def start(*arguments: str, env: Mapping[str, str] | None = None, inside: Sequence[str] = ()) -> Program:
        started.append(Program(*arguments, env=env, inside=inside, folder=tmp_path))
        return started[-1]

    yield start
    for one in started:
        one.close()
        sys.stdout.write(f"{one!r} ended with {one.code}:\n{one.tail()}\n")


def _parsed(line: str) -> Log | None:
    if line.startswith("{"):
        with contextlib.suppress(ValueError):
            parsed: Log = json.loads(line)
            return parsed
    return None
