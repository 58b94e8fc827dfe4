"""A wall clock that a test sets: a library, loaded into the program, adds to what the kernel says.

    worker = program("run", env={**env, **wall_clock.env})
    wall_clock.set(timedelta(days=1))

The steady clock and the servers' clocks stay as they are, and so does how long somebody waits who waits already: a
real clock that is put back prolongs waits of libraries that end at an instant of the calendar; this does not show it.
"""

import os
import shutil
import struct
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.lacking import skip_for

SOURCE = Path(__file__).with_suffix(".c")
BUILD_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class WallClock:
    """What the programs that were started with `env` read."""

    library: Path
    file: Path

    @property
    def env(self) -> dict[str, str]:
        return {"LD_PRELOAD": str(self.library), "WALL_CLOCK_FILE": str(self.file)}

    def set(self, ahead: timedelta) -> None:
        """So far from the right time, at once, in programs that run."""
        file = os.open(self.file, os.O_WRONLY | os.O_CREAT)
        os.pwrite(file, struct.pack("=q", int(ahead.total_seconds())), 0)
        os.close(file)


@pytest.fixture
def wall_clock(tmp_path: Path) -> WallClock:
    """The right time, until it is set."""
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        skip_for("a program's clock is moved by a library for Linux that a C compiler makes")
    clock = WallClock(tmp_path / "wall_clock.so", tmp_path / "wall_clock.ahead")
    command = [str(compiler), "-shared", "-fPIC", "-O1", "-o", str(clock.library), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, timeout=BUILD_TIMEOUT_S)
    clock.set(timedelta(0))
    return clock
