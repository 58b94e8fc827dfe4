"""A connection that gives up when nothing is heard for too long.

The kernel notices a peer that is gone (keepalive, unacknowledged data). It does not notice a proxy between that lives
and passes nothing on: for TCP all is well, and the driver would wait for ever. The server's own limits do not help
either, because their message does not arrive.
"""

import math
import time
from collections.abc import Generator
from typing import Any, TypeVar

import psycopg

T = TypeVar("T")


class ListeningConnection(psycopg.Connection[tuple[object, ...]]):
    """Closes itself when the server has said nothing for `answer_within_s` while an answer was due."""

    answer_within_s: float = math.inf

    def wait(self, gen: Generator[Any, Any, T], *args: Any, **kwargs: Any) -> T:  # noqa: ANN401 - the driver's own
        """Consume a generator of the driver's, within the time."""
        return super().wait(self._bounded(gen), *args, **kwargs)

    def _bounded(self, gen: Generator[Any, Any, T]) -> Generator[Any, Any, T]:
        heard_at = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                # The driver looks up several times a second, and is then told that nothing is ready.
                ready = yield wanted
                now = time.monotonic()
                if ready:
                    heard_at = now
                elif now - heard_at > self.answer_within_s:
                    self.pgconn.finish()
                    raise psycopg.OperationalError(f"PostgreSQL has not answered for {self.answer_within_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: T = done.value
            return result
