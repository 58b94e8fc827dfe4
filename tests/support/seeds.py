"""One seed for everything random in a test run: TALLYSTREAM_TEST_SEED repeats it. The suite's header prints it.

Hypothesis gets the same one, without deadlines: a test machine is shared, and a slow example is no failure.
"""

import os
import random

import hypothesis
import pytest

SEED_VARIABLE = "TALLYSTREAM_TEST_SEED"

seed_key = pytest.StashKey[int]()

hypothesis.settings.register_profile("tallystream", deadline=None)
hypothesis.settings.load_profile("tallystream")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    seed = int(os.environ.get(SEED_VARIABLE) or random.SystemRandom().randrange(2**32))
    config.stash[seed_key] = seed
    os.environ[SEED_VARIABLE] = str(seed)  # where tests run side by side, their processes start with it
    if config.getoption("hypothesis_seed", None) is None:
        config.option.hypothesis_seed = str(seed)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of this test's own: the same for the same seed, whichever other tests run."""
    return random.Random(f"{request.config.stash[seed_key]} {request.node.nodeid}")
