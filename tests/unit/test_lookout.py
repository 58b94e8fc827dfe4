"""What is known of PostgreSQL without asking it at that moment, and when it is asked for more than a sign of life."""

import threading

from ingest.domain.overview import Overview
from ingest.errors import OperatorError, TransientError
from ingest.observability.lookout import ANSWER_WITHIN_S, EVERY_S, Lookout
from tests.support.waiting import wait_until

TIMEOUT_S = 30


class Server:
    """A database that answers, fails or keeps one waiting, as a test says."""

    def __init__(self) -> None:
        self.failure: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.pings = self.overviews = 0
        self.closed = False

    def ping(self) -> None:
        self.pings += 1
        assert self.gate.wait(TIMEOUT_S)
        if self.failure is not None:
            raise self.failure

    def overview(self) -> Overview:
        self.overviews += 1
        return Overview(waiting={"not_json": self.overviews})

    def close(self) -> None:
        self.closed = True


def is_up(lookout: Lookout) -> bool:
    """What it says now; mypy takes a property for something that stays."""
    return lookout.is_up


class Time:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_it_is_down_until_it_has_answered() -> None:
    """Nothing is taken for health that was not seen; an answer ages, and a failure is known at once."""
    server, time = Server(), Time()
    lookout = Lookout(server, clock=time)
    assert not is_up(lookout)
    lookout.look()
    assert is_up(lookout)
    time.now += ANSWER_WITHIN_S + 1
    assert not is_up(lookout)
    for failure in (TransientError("gone"), OperatorError("no password")):
        lookout.look()
        assert is_up(lookout)
        server.failure = failure
        lookout.look()
        assert not is_up(lookout)
        server.failure = None


def test_the_overview_is_read_while_somebody_looks() -> None:
    """A page that nobody has open costs the database nothing."""
    server, time = Server(), Time()
    lookout = Lookout(server, clock=time)
    lookout.look()
    assert (server.overviews, lookout.watch()) == (0, None)
    lookout.look()
    assert lookout.watch() == Overview(waiting={"not_json": 1})
    time.now += 3 * EVERY_S
    lookout.look()
    assert server.overviews == 1
    always = Lookout(server, always=True, clock=time)
    always.look()
    assert always.overview is not None


def test_a_question_that_is_not_answered_keeps_nobody_waiting() -> None:
    """Whoever asks for health is told at once; and the process ends, whatever the database does."""
    server, time = Server(), Time()
    lookout = Lookout(server, clock=time)
    lookout.start()
    wait_until(lambda: lookout.is_up, TIMEOUT_S, "the first answer")
    server.gate.clear()
    lookout.watch()
    wait_until(lambda: server.pings == 2, TIMEOUT_S, "a question without an answer")
    time.now += ANSWER_WITHIN_S + 1
    assert not is_up(lookout)
    lookout.stop()
    assert not server.closed
    server.gate.set()
    wait_until(lambda: server.closed, TIMEOUT_S, "the thread ends by itself")


def test_a_mistake_of_ours_is_a_database_that_is_down() -> None:
    """The thread goes on, and says so in the log."""
    server = Server()
    server.failure = ZeroDivisionError("ours")
    lookout = Lookout(server)
    lookout.start()
    wait_until(lambda: server.pings == 1, TIMEOUT_S, "the first question")
    assert not is_up(lookout)
    server.failure = None
    lookout.watch()
    wait_until(lambda: lookout.is_up, TIMEOUT_S, "the next answer")
    lookout.stop()
    wait_until(lambda: server.closed, TIMEOUT_S, "the thread ends")
