"""A network that is slow, silent or cut where a test says: Toxiproxy between the program and its servers.

    link = network.link("127.0.0.1:5432")       # an address that leads there
    link.poison("latency", latency=300, jitter=200)
    link.poison("timeout", timeout=0, stream="downstream")     # nothing comes back, and nobody says so
    link.heal()

It is built with Go, once, into `.cache`. A test that needs it is skipped with the reason where it cannot be had; under
CI it fails.
"""

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.support.downloads import cached
from tests.support.lacking import skip_for
from tests.support.processes import Server, free_ports
from tests.support.versions import TOXIPROXY
from tests.support.waiting import wait_until

MODULE = "github.com/Shopify/toxiproxy/v2/cmd/server"
BUILD_TIMEOUT_S = 600
READY_TIMEOUT_S = 30
REQUEST_TIMEOUT_S = 10

Stream = Literal["upstream", "downstream"]


class Link:
    """One way to one server."""

    def __init__(self, network: "Network", name: str, port: int) -> None:
        self.port = port
        self._network = network
        self._path = f"/proxies/{name}"

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def poison(self, kind: str, stream: Stream | None = None, **attributes: int) -> None:
        """One more fault, in one direction or in both."""
        for direction in (stream,) if stream else ("upstream", "downstream"):
            toxic = {"name": f"{kind}-{direction}", "type": kind, "stream": direction, "attributes": attributes}
            self._network.ask("POST", f"{self._path}/toxics", toxic)

    def cut(self) -> None:
        """Every connection ends, and nobody gets another one."""
        self._network.ask("POST", self._path, {"enabled": False})

    def heal(self) -> None:
        """All is well; connections that a black hole has swallowed end now."""
        for toxic in self._network.ask("GET", f"{self._path}/toxics"):
            self._network.ask("DELETE", f"{self._path}/toxics/{toxic['name']}")
        self._network.ask("POST", self._path, {"enabled": True})


class Network:
    """The program that forwards."""

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"
        self._links = 0

    def link(self, upstream: str, port: int | None = None) -> Link:
        """A way to this server, on a port of its own."""
        self._links += 1
        name, listen = f"link-{self._links}", port or free_ports(1)[0]
        self.ask("POST", "/proxies", {"name": name, "listen": f"127.0.0.1:{listen}", "upstream": upstream})
        return Link(self, name, listen)

    def ask(self, method: str, path: str, body: object = None) -> Any:  # noqa: ANN401 - JSON
        request = urllib.request.Request(  # noqa: S310 - our own server
            self._address + path, None if body is None else json.dumps(body).encode(), method=method
        )
        with urllib.request.urlopen(request, timeout=REQUEST_TIMEOUT_S) as answer:  # noqa: S310
            text = answer.read()
        return json.loads(text) if text else None

    def answers(self) -> bool:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            return self.ask("GET", "/proxies") is not None
        return False


@pytest.fixture(scope="session")
def network() -> Iterator[Network]:
    """Toxiproxy, without any link yet."""
    program = _program()
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="ts-toxiproxy-") as folder:
        server = Server([program, "-host", "127.0.0.1", "-port", str(port)], Path(folder) / "log")
        try:
            made = Network(port)
            wait_until(made.answers, READY_TIMEOUT_S, "Toxiproxy answers")
            yield made
        finally:
            server.kill()


def _program() -> Path:
    name = f"toxiproxy-{TOXIPROXY}"
    try:
        return cached(name, _build) / "server"
    except (OSError, subprocess.SubprocessError) as error:
        skip_for(f"Toxiproxy cannot be built (it needs Go, and Go's module proxy the first time): {error}")


def _build(target: Path) -> None:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise FileNotFoundError("go is not installed")
    subprocess.run(
        [go, "install", f"{MODULE}@{TOXIPROXY}"],
        check=True,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=BUILD_TIMEOUT_S,
        env={**os.environ, "GOBIN": str(target), "GOFLAGS": "-modcacherw"},
    )
