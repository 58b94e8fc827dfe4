"""Servers as child processes: free ports, and nothing left behind whatever ends the test run."""

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

STOP_TIMEOUT_S = 60

# Waits until the test run closes its end of the pipe, which the kernel does even after a kill -9 of it.
_GUARD = 'read -r _; kill -KILL "$1"'


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on, all different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


class Server:
    """One server process, its output in a file. It ends with the test run at the latest."""

    def __init__(
        self, command: Sequence[str | Path], log: Path, *, env: Mapping[str, str] | None = None, user: str | None = None
    ) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                user=user,
                cwd="/",
                start_new_session=True,  # a Ctrl-C ends the tests, and they end the servers in order
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def stop(self, with_signal: signal.Signals = signal.SIGTERM) -> None:
        """Asks it to stop; kills it when it does not."""
        if self.running:
            self._process.send_signal(with_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_TIMEOUT_S)
        self.kill()

    def kill(self) -> None:
        """kill -9, its children too: what a power cut is to a server."""
        children: list[psutil.Process] = []
        if self.running:
            with contextlib.suppress(psutil.NoSuchProcess):
                self._process.send_signal(signal.SIGSTOP)  # no new children between the look and the kill
                children = psutil.Process(self.pid).children(recursive=True)
            self._process.kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=STOP_TIMEOUT_S)
        self._process.wait(STOP_TIMEOUT_S)
        self._dismiss_guard()

    def last_lines(self, count: int = 30) -> str:
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join(lines[-count:])

    def _dismiss_guard(self) -> None:
        """Before its pipe is closed: the process id may belong to somebody else by then."""
        self._guard.kill()
        self._guard.wait(STOP_TIMEOUT_S)
        if self._guard.stdin is not None:
            self._guard.stdin.close()


def is_root() -> bool:
    return os.geteuid() == 0
