"""A stream for log lines that never makes its writer wait: a reader that stops reading costs lines, not the work.

Lines go through a bounded queue to one thread that writes them. When the queue is full a line is dropped and counted.
"""

import queue
import threading
import time
from io import FileIO
from typing import Final, Protocol, TextIO

MOST_LINES: Final = 10_000
FLUSH_TIMEOUT_S: Final = 2.0


class Stream(Protocol):
    """As much of a stream as a log handler needs."""

    def write(self, text: str, /) -> int:
        """Take text."""

    def flush(self) -> None:
        """Hand on what was taken."""

    def isatty(self) -> bool:
        """Tell whether a person reads it."""


class BackgroundStream:
    """Stands before a stream, which nobody else writes to."""

    def __init__(self, stream: Stream, most_lines: int = MOST_LINES) -> None:
        self.dropped = 0
        self._stream = stream
        self._lines: queue.Queue[str] = queue.Queue(most_lines)
        self._idle = threading.Event()
        self._idle.set()
        threading.Thread(target=self._write_on, name="log", daemon=True).start()

    def write(self, line: str) -> int:
        """Take a line, or drop it; returns at once."""
        self._idle.clear()
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.dropped += 1
        return len(line)

    def flush(self) -> None:
        """Do nothing: whoever logs does not wait."""

    def isatty(self) -> bool:
        """Tell whether a person reads it."""
        return self._stream.isatty()

    def drain(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until everything is written, but not for ever: at the end of the process."""
        deadline = time.monotonic() + timeout_s
        while not (self._lines.empty() and self._idle.is_set()):
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.005)
        return True

    def _write_on(self) -> None:
        while True:
            line = self._lines.get()
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                self.dropped += 1
            if self._lines.empty():
                self._idle.set()


def unlocked(stream: TextIO) -> Stream:
    """Return a way to the same file without Python's buffer, which a stuck writer would hold at the process's end."""
    try:
        return _Unbuffered(FileIO(stream.fileno(), "w", closefd=False))
    except (OSError, ValueError):
        return stream  # a stream in memory


class _Unbuffered:
    def __init__(self, file: FileIO) -> None:
        self._file = file

    def write(self, text: str, /) -> int:
        rest = memoryview(text.encode("utf-8", "backslashreplace"))
        while rest:
            rest = rest[self._file.write(rest) :]
        return len(text)

    def flush(self) -> None:
        """Nothing waits."""

    def isatty(self) -> bool:
        return self._file.isatty()
