"""The suite's header: which servers, which versions, which seed. And an orderly end when the run is told to stop."""

import platform
import signal
from types import FrameType

import confluent_kafka
import psycopg
import pytest

from tests.support import kafka, postgres
from tests.support.seeds import SEED_VARIABLE, seed_key


def pytest_configure() -> None:
    def stop(_signal: int, _frame: FrameType | None) -> None:
        pytest.exit("stopped by SIGTERM", returncode=143)

    signal.signal(signal.SIGTERM, stop)


def pytest_report_header(config: pytest.Config) -> list[str]:
    librdkafka = confluent_kafka.libversion()[0]
    return [
        f"postgres: {postgres.describe()}; psycopg {psycopg.__version__}, libpq {psycopg.pq.version()}",
        f"kafka: {kafka.describe()}; confluent-kafka {confluent_kafka.version()}, librdkafka {librdkafka}",
        f"machine: {platform.system()} {platform.machine()}, Python {platform.python_version()}",
        f"seed: {config.stash[seed_key]} ({SEED_VARIABLE} repeats it)",
    ]
