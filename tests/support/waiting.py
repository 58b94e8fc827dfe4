"""Waiting with a deadline. Tests wait on conditions, never for a length of time."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE_S = 0.02


def wait_until(condition: Callable[[], T], timeout_s: float, what: str) -> T:
    """The first truthy answer of `condition`; fails with `what` did not happen when the time is over."""
    deadline = time.monotonic() + timeout_s
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            message = f"{what}: not within {timeout_s} s"
            raise TimeoutError(message)
        time.sleep(PAUSE_S)
