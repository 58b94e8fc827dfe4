"""A log that nobody reads: lines are lost and counted, and whoever writes them never waits."""

import contextlib
import io
import os
import threading
from collections.abc import Iterator
from typing import IO, TextIO

import pytest

from ingest.observability.sink import BackgroundStream, unlocked
from tests.support.waiting import wait_until

TIMEOUT_S = 30
LINE = "x" * 1023 + "\n"


@pytest.fixture
def pipe() -> Iterator[tuple[IO[bytes], TextIO]]:
    """A pipe that holds 64 KiB until somebody reads."""
    reader, writer = os.pipe()
    with os.fdopen(reader, "rb") as read, os.fdopen(writer, "w") as written:
        yield read, written


def _fill(writer: TextIO) -> int:
    """Fills the pipe; says with how many bytes."""
    filled = 0
    os.set_blocking(writer.fileno(), False)
    with contextlib.suppress(BlockingIOError):
        while True:
            filled += os.write(writer.fileno(), b"." * 512)
    os.set_blocking(writer.fileno(), True)
    return filled


def test_lines_come_in_order() -> None:
    """As they were written, all of them."""
    there = io.StringIO()
    stream = BackgroundStream(there)
    for number in range(1000):
        stream.write(f"{number}\n")
    assert stream.drain(TIMEOUT_S)
    assert there.getvalue().split() == [str(number) for number in range(1000)]
    assert stream.dropped == 0


def test_a_full_pipe_makes_nobody_wait(pipe: tuple[IO[bytes], TextIO]) -> None:
    """What fits into the queue is kept, the rest is counted; when somebody reads again, writing goes on."""
    reader, writer = pipe
    before = _fill(writer)
    stream = BackgroundStream(unlocked(writer), most_lines=10)
    written = threading.Thread(target=lambda: [stream.write(LINE) for _ in range(500)], daemon=True)
    written.start()
    written.join(TIMEOUT_S)
    assert not written.is_alive()
    assert stream.dropped in {489, 490}
    assert not stream.drain(0.05)
    kept = 500 - stream.dropped
    assert reader.read(before + kept * len(LINE)) == b"." * before + LINE.encode() * kept
    stream.write("again\n")
    assert stream.drain(TIMEOUT_S)
    assert reader.readline() == b"again\n"


def test_a_stuck_writer_holds_no_lock_of_the_stream(pipe: tuple[IO[bytes], TextIO]) -> None:
    """Python flushes standard error at its end: it must not find the buffer taken by a thread that waits for ever."""
    _, writer = pipe
    _fill(writer)
    stream = BackgroundStream(unlocked(writer), most_lines=5)
    for _ in range(20):
        stream.write(LINE)
    flushed = threading.Thread(target=writer.flush, daemon=True)
    flushed.start()
    flushed.join(TIMEOUT_S)
    assert not flushed.is_alive()


def test_a_reader_that_is_gone_costs_lines_only(pipe: tuple[IO[bytes], TextIO]) -> None:
    """A broken pipe is counted; nothing is raised where the line was logged."""
    reader, writer = pipe
    reader.close()
    stream = BackgroundStream(unlocked(writer))
    stream.write("nobody\n")
    assert stream.drain(TIMEOUT_S)
    wait_until(lambda: stream.dropped == 1, TIMEOUT_S, "the line is counted")
