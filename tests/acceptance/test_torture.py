"""A short torture: the same program as `make torture`, for as long as every change can afford."""

import subprocess
import sys

import pytest

from tests.support import local_kafka
from tests.support.downloads import ROOT
from tests.support.lacking import skip_for

pytestmark = [pytest.mark.slow, pytest.mark.kafka, pytest.mark.timeout(600)]

SECONDS = 20
TIMEOUT_S = 500


@pytest.mark.scenario("B1", "B4", "B5", "B19", "W6", "P1", "P3", "P4", "C1", "C2", "C5", "C6", "C7", "O4", "O8")
def test_a_short_torture(request: pytest.FixtureRequest) -> None:
    """Whoever is killed or frozen: snapshots agree all the time, and in the end every number is the oracle's."""
    if lack := local_kafka.missing():
        skip_for(f"torture needs a broker of its own, and {lack}")
    seed = str(request.config.getoption("hypothesis_seed", None) or 1)
    done = subprocess.run(
        [sys.executable, "-m", "tests.torture", "--seconds", str(SECONDS), "--seed", seed],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-5_000:]
    assert "slopes over" in done.stdout
    assert "torture: every number is right" in done.stdout
