"""Sessions that meet: one holds what another wants, and a test sees that it waits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

import psycopg

from tests.support.postgres import SEARCH_PATH, Database
from tests.support.waiting import wait_until

T = TypeVar("T")

WAIT_S = 60

IS_WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""

# Where a slice of pending deltas of `stock` can be caught, in the order in which it comes there.
SLICE_STEPS = {
    "declarations": "SELECT pg_advisory_xact_lock(_lock_key('registry'))",
    "day totals": "SELECT 1 FROM stock_totals_day FOR UPDATE",
    "year totals": "SELECT 1 FROM stock_totals_year FOR UPDATE",
    "balance": "SELECT 1 FROM stock_balance_cache FOR UPDATE",
}


class Running(Generic[T]):
    """Something that runs in a thread of its own; `result` waits for it, and raises what it raised."""

    def __init__(self, work: Callable[[], T]) -> None:
        self._work = work
        self._answer: T | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def done(self) -> bool:
        return not self._thread.is_alive()

    def result(self) -> T:
        self.error(raising=True)
        return self._answer  # type: ignore[return-value]

    def error(self, *, raising: bool = False) -> BaseException | None:
        """What it raised, if anything."""
        self._thread.join(WAIT_S)
        assert self.done, "it is still running"
        if self._error is not None and raising:
            raise self._error
        return self._error

    def _run(self) -> None:
        try:
            self._answer = self._work()
        except BaseException as error:  # noqa: BLE001 - kept for the test
            self._error = error


def together(*work: Callable[[], T]) -> list[BaseException | None]:
    """Does all of it at the same time; what each raised."""
    barrier = threading.Barrier(len(work))

    def begin(one: Callable[[], T]) -> Callable[[], T]:
        def run() -> T:
            barrier.wait(WAIT_S)
            return one()

        return run

    running = [Running(begin(one)) for one in work]
    return [one.error() for one in running]


@contextmanager
def holding(database: Database, statement: str) -> Iterator[psycopg.Connection]:
    """A session that has executed a statement, and holds its locks until the block ends."""
    with database.connect(autocommit=False, options=SEARCH_PATH) as connection:
        connection.execute(statement.encode())
        yield connection
        connection.rollback()


def wait_for_waiters(database: Database, count: int = 1) -> None:
    """Returns when so many sessions of the database wait for locks."""
    with database.connect() as connection:

        def enough() -> bool:
            row = connection.execute(IS_WAITING).fetchone()
            return row is not None and row[0] >= count

        wait_until(enough, WAIT_S, f"{count} sessions wait for a lock")
