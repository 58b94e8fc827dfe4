"""Hostile input takes no memory that stays."""

import json
import subprocess
import sys

import pytest

from tests.support.downloads import ROOT

ROUNDS = 4
# What one input of 11 MB may need at most while it is looked at.
SPARE_MB = 400


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the address space of a process is limited on Linux")
@pytest.mark.scenario("X7")
def test_hostile_input_takes_no_memory_that_stays() -> None:
    """The poison corpus, large ones and one of 50 MB, several times: the process grows once, and within its limit."""
    command = [sys.executable, "-m", "tests.support.hostile", str(ROUNDS), str(SPARE_MB)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=240)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["inputs"] > ROUNDS * 70
    assert said["last_kb"] - said["first_kb"] < 20_000
