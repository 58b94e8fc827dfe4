"""The beginning of a process: PostgreSQL may come up later; what another attempt would not mend ends it at once."""

import threading
from collections.abc import Callable

import structlog

from ingest.delays import Delays
from ingest.errors import LoginRefusedError, TransientError
from ingest.settings import Settings
from ingest.wiring import commands

_log = structlog.get_logger(__name__)


class Start:
    """What comes before a loop; `stop` ends both."""

    def __init__(self, settings: Settings, stop_loop: Callable[[], None]) -> None:
        self._settings = settings
        self._delays = Delays(settings.retry_initial_ms, settings.retry_max_ms)
        self._stop_loop = stop_loop
        self._stopping = threading.Event()

    def stop(self) -> None:
        """Ask for the end; safe from a signal handler."""
        self._stopping.set()
        self._stop_loop()

    def wait_for_schema(self) -> None:
        """Return when the schema is there, or when told to stop; fails when it is not the one that it must be."""
        while not self._stopping.is_set():
            try:
                commands.check_database(self._settings)
            except LoginRefusedError:
                raise
            except TransientError as error:
                _log.warning("PostgreSQL is not available, waiting", error=str(error))
                self._stopping.wait(self._delays.take_s())
            else:
                return
