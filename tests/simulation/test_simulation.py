"""The worker in simulated lives full of mishaps: every event once, in order, and the work goes on in the end."""

import subprocess
import sys

import pytest

from tests.simulation.world import World
from tests.support.downloads import ROOT

SECONDS = 12
TIMEOUT_S = 120


@pytest.mark.scenario("B4", "B5", "B6", "B9", "B10", "B11", "B12", "B13", "N1", "N2", "W3", "W11", "P8")
def test_lives_full_of_mishaps_keep_every_promise(request: pytest.FixtureRequest) -> None:
    """Rebalances, zombies, retention, truncation, lost replies, fail-overs: as many seeds as the time allows."""
    first = request.config.getoption("hypothesis_seed", None) or 1
    arguments = ["--seeds", "1000", "--first", str(first), "--seconds", str(SECONDS)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "every promise was kept" in done.stdout


def test_a_seed_repeats_itself() -> None:
    """The same seed is the same life, to the last turn: a failure can be looked at again."""
    lives = []
    for _ in range(2):
        told: list[str] = []
        world = World(4711, told.append)
        world.run()
        lives.append((told, world.scheduler.turns, world.reached, world.server.applied))
    assert lives[0] == lives[1]
    assert len(lives[0][0]) > 10
