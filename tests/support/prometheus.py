"""Real Prometheus for tests: `promtool`, and a server that scrapes what a test tells it.

    prometheus = scraping({"worker": 9480, "compactor": 9481})
    prometheus.wait_for("tallystream_ready == 1")

The programs are, in this order: those on the PATH; those of Debian's package, unpacked into `.cache` and not
installed, so that no service is started. Without either the tests are skipped with that reason; under CI they fail.
"""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.support.downloads import cached
from tests.support.http import answers, fetch
from tests.support.lacking import skip_for
from tests.support.processes import Server, free_ports
from tests.support.waiting import wait_until

DOWNLOAD_TIMEOUT_S = 300
READY_TIMEOUT_S = 60
QUERY_TIMEOUT_S = 60

CONFIGURATION = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
{jobs}
"""
JOB = "  - {{job_name: {name}, static_configs: [{{targets: ['127.0.0.1:{port}']}}]}}"


@dataclass(frozen=True, slots=True)
class Tools:
    """Where the two programs are."""

    prometheus: Path
    promtool: Path

    def check(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Runs promtool; what it says is in the error when it finds fault."""
        command = [str(self.promtool), *map(str, arguments)]
        done = subprocess.run(command, check=False, input=stdin or "", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


class Prometheus:
    """A running server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples of an instant query: `metric` has the labels, `value` time and number."""
        return list(self.ask("query", query=expression)["result"])

    def ask(self, path: str, **parameters: str) -> dict[str, Any]:
        content = fetch(self.port, f"/api/v1/{path}?{urlencode(parameters)}").json
        assert content["status"] == "success", content
        data: dict[str, Any] = content["data"]
        return data

    def wait_for(self, expression: str, timeout_s: float = QUERY_TIMEOUT_S) -> list[dict[str, Any]]:
        """Waits until a query has an answer that is not empty."""
        wait_until(lambda: self.query(expression), timeout_s, f"{expression} has an answer")
        return self.query(expression)


@pytest.fixture(scope="session")
def prometheus_tools() -> Tools:
    """promtool, and Prometheus itself."""
    found = {name: shutil.which(name) for name in ("prometheus", "promtool")}
    if all(found.values()):
        return Tools(*(Path(str(path)) for path in found.values()))
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        skip_for("Prometheus is not installed (Debian, Ubuntu: apt install prometheus)")
    folder = cached("prometheus", _unpack) / "usr" / "bin"
    return Tools(folder / "prometheus", folder / "promtool")


@pytest.fixture
def scraping(prometheus_tools: Tools) -> Iterator[Callable[..., Prometheus]]:
    """Starts a Prometheus that scrapes these ports of this machine every second, under these names."""
    servers: list[Server] = []
    with tempfile.TemporaryDirectory(prefix="ts-prometheus-") as folder:

        def start(targets: Mapping[str, int], rules: Path | None = None) -> Prometheus:
            server, prometheus = _start(prometheus_tools, Path(folder), targets, rules)
            servers.append(server)
            return prometheus

        yield start
        for server in servers:
            server.stop()


def _start(tools: Tools, folder: Path, targets: Mapping[str, int], rules: Path | None) -> tuple[Server, Prometheus]:
    port = free_ports(1)[0]
    configuration = folder / "prometheus.yml"
    jobs = "\n".join(JOB.format(name=name, port=target) for name, target in targets.items())
    configuration.write_text(CONFIGURATION.format(jobs=jobs, rules="" if rules is None else rules))
    options = {
        "config.file": configuration,
        "storage.tsdb.path": folder / "data",
        "web.listen-address": f"127.0.0.1:{port}",
        "log.level": "warn",
    }
    server = Server([tools.prometheus, *(f"--{name}={value}" for name, value in options.items())], folder / "log")

    def is_ready() -> bool:
        assert server.running, server.last_lines()
        return answers(port, "/-/ready") == HTTPStatus.OK

    wait_until(is_ready, READY_TIMEOUT_S, "Prometheus answers")
    return server, Prometheus(port)


def _unpack(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for command in (
            ["apt-get", "download", "prometheus"],
            ["apt-get", "update"],
            ["apt-get", "download", "prometheus"],
        ):
            if not list(Path(scratch).glob("*.deb")):
                subprocess.run(command, check=False, capture_output=True, cwd=scratch, timeout=DOWNLOAD_TIMEOUT_S)
        (package,) = Path(scratch).glob("*.deb")
        subprocess.run(["dpkg-deb", "-x", package, folder], check=True, capture_output=True)
