"""How long to wait before something is tried again, and the clock that it is done by."""

import random
import threading
from typing import Protocol


class Clock(Protocol):
    """Time, so that tests can have their own."""

    def now(self) -> float:
        """Seconds of a steady clock."""

    def sleep(self, seconds: float, until: threading.Event) -> None:
        """Wait, at most until the event is set."""


class Delays:
    """Longer each time, up to a bound; with jitter, so that what failed together does not come back together."""

    def __init__(self, initial_ms: int, max_ms: int) -> None:
        self._initial_ms = self._next_ms = initial_ms
        self._max_ms = max_ms

    def take_s(self) -> float:
        """Seconds to wait now."""
        delay_ms, self._next_ms = self._next_ms, min(self._next_ms * 2, self._max_ms)
        return random.uniform(0.5, 1.0) * delay_ms / 1000  # noqa: S311

    def reset(self) -> None:
        """Begin again, after a success."""
        self._next_ms = self._initial_ms
