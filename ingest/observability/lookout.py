"""Asks PostgreSQL now and then, in a thread of its own: so that whoever asks for health is answered from memory.

A question that takes too long counts as no answer while it lasts. The overview for the status page is only asked for
while somebody looks at it.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from ingest.domain.overview import Overview
from ingest.errors import TallystreamError

EVERY_S: Final = 5.0
ANSWER_WITHIN_S: Final = 15.0
"""An answer that is older than this says nothing any more."""

_log = structlog.get_logger(__name__)


class Asks(Protocol):
    """What is asked: PostgreSQL."""

    def ping(self) -> None:
        """Return when it answers and takes writes; raise when it does not."""

    def overview(self) -> Overview:
        """Read what only the database knows."""

    def close(self) -> None:
        """Give back the connection."""


class Lookout:
    """Knows whether PostgreSQL answered a moment ago."""

    def __init__(self, asks: Asks, *, always: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self.overview: Overview | None = None
        self._asks = asks
        self._always = always
        self._clock = clock
        self._answered_at: float | None = None
        self._watched_at = float("-inf")
        self._stopping = threading.Event()
        self._soon = threading.Event()
        self._thread = threading.Thread(target=self._look_on, name="lookout", daemon=True)

    @property
    def is_up(self) -> bool:
        """Whether PostgreSQL answered, recently."""
        answered_at = self._answered_at
        return answered_at is not None and self._clock() - answered_at <= ANSWER_WITHIN_S

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more; a question under way is not waited for."""
        self._stopping.set()
        self._soon.set()

    def watch(self) -> Overview | None:
        """Return the latest overview; while this is called again and again, it is renewed."""
        if not self._is_watched():
            self._soon.set()
        self._watched_at = self._clock()
        return self.overview

    def look(self) -> None:
        """Ask once."""
        try:
            self._asks.ping()
            if self._always or self._is_watched():
                self.overview = self._asks.overview()
            self._answered_at = self._clock()
        except TallystreamError as error:
            self._answered_at = None
            _log.debug("PostgreSQL does not answer", error=str(error))

    def _is_watched(self) -> bool:
        return self._clock() - self._watched_at <= 2 * EVERY_S

    def _look_on(self) -> None:
        while not self._stopping.is_set():
            self._soon.clear()
            try:
                self.look()
            except Exception:  # noqa: BLE001 - logged; a thread that ended would look like a database that is down
                self._answered_at = None
                _log.exception("PostgreSQL could not be asked how it is")
            self._soon.wait(EVERY_S)
        self._asks.close()
