"""A real schema registry with Confluent's API: Apicurio, in memory, one per test process.

It is, in this order: the one that TALLYSTREAM_TEST_SCHEMA_REGISTRY_URL names; else one from Maven Central, with Java.
Without either the tests that need it are skipped with that reason; under CI they fail.
"""

import os
import tarfile
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import local_kafka
from tests.support.downloads import cached, run_maven
from tests.support.lacking import skip_for
from tests.support.processes import Server, free_ports
from tests.support.versions import APICURIO, MAVEN_DEPENDENCY_PLUGIN
from tests.support.waiting import wait_until

ADDRESS_VARIABLE = "TALLYSTREAM_TEST_SCHEMA_REGISTRY_URL"
READY_TIMEOUT_S = 120
FLAGS = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


@pytest.fixture(scope="session")
def schema_registry() -> Iterator[str]:
    """The address of a schema registry."""
    if given := os.environ.get(ADDRESS_VARIABLE):
        yield given
        return
    if lack := local_kafka.missing():
        skip_for(f"no schema registry: {ADDRESS_VARIABLE} is not set, and {lack}")
    (port,) = free_ports(1)
    (jar,) = cached(f"apicurio-{APICURIO}", _fetch).glob("*-runner.jar")
    with tempfile.TemporaryDirectory(prefix="ts-registry-") as folder:
        options = (f"-Dquarkus.http.port={port}", "-Dquarkus.http.host=127.0.0.1", f"-Djava.io.tmpdir={folder}")
        server = Server(["java", *FLAGS, *options, "-jar", jar], Path(folder, "log"))
        try:
            url = f"http://127.0.0.1:{port}/apis/ccompat/v7"
            wait_until(lambda: not server.running or _answers(url), READY_TIMEOUT_S, "the schema registry answers")
            assert server.running, server.last_lines()
            yield url
        finally:
            server.kill()


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/subjects", timeout=5) as answer:  # noqa: S310 - our own address
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def _fetch(folder: Path) -> None:
    artifact = f"io.apicurio:apicurio-registry-app:{APICURIO}:tar.gz:all"
    run_maven(f"{MAVEN_DEPENDENCY_PLUGIN}:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={folder}")
    for archive in folder.glob("*.tar.gz"):
        with tarfile.open(archive) as packed:
            packed.extractall(folder, filter="data")
        archive.unlink()
