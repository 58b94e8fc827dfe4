"""What several commands and processes are made of: the access to each server, the clock, names."""

import getpass
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait

from ingest.domain.applying import Applied
from ingest.domain.framing import ReadFramed, refuse_framed
from ingest.kafka.bounds import BoundsReader
from ingest.kafka.options import admin_config
from ingest.kafka.schema_registry import schema_reader
from ingest.postgres.connections import Database, check_dsn
from ingest.settings import Settings


def database(settings: Settings) -> Database:
    """Return the access to PostgreSQL; nothing is opened yet."""
    dsn = settings.postgres_dsn.get_secret_value()
    check_dsn(dsn)
    return Database(
        dsn,
        settings.schema_name,
        connect_timeout_ms=settings.connect_timeout_ms,
        statement_timeout_ms=settings.statement_timeout_ms,
        lock_timeout_ms=settings.lock_timeout_ms,
        maintenance_timeout_ms=settings.maintenance_timeout_ms,
    )


def framed_reader(settings: Settings) -> ReadFramed:
    """Return what reads values that name a schema; without a registry they are refused."""
    if not settings.schema_registry_url:
        return refuse_framed
    return schema_reader(
        settings.schema_registry_url,
        settings.schema_registry_user,
        settings.schema_registry_password.get_secret_value(),
        settings.schema_registry_ca_file,
        timeout_s=settings.schema_registry_timeout_ms / 1000,
    )


def bounds_reader(settings: Settings) -> BoundsReader:
    """Return the client that asks the broker where logs begin and end."""
    config = admin_config(settings.kafka_bootstrap_servers, settings.kafka_options)
    return BoundsReader(config, timeout_s=settings.connect_timeout_ms / 1000)


def worker_name() -> str:
    """Return a name that tells an operator which process it is: host and process id."""
    return f"{socket.gethostname()}:{os.getpid()}"


def operator_name() -> str:
    """Return who is at the keyboard: the machine's user and its name. A database role is often shared."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that its machine does not know
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


class SteadyClock:
    """The machine's steady clock."""

    def now(self) -> float:
        """Seconds that only grow."""
        return time.monotonic()

    def sleep(self, seconds: float, until: threading.Event) -> None:
        """Wait, at most until the event is set."""
        until.wait(seconds)


class Threads:
    """A thread for each batch: the driver waits for PostgreSQL outside the interpreter's lock."""

    def start(self, work: Callable[[], None]) -> None:
        """Begin the work, and return."""
        threading.Thread(target=work, name="commit", daemon=True).start()

    def wait(self, results: Sequence[Future[Applied]], timeout_s: float) -> bool:
        """Return when one of the results is there, or the time is over; says which."""
        return bool(wait(results, timeout_s, FIRST_COMPLETED).done)
