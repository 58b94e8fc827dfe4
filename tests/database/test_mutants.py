"""A few planted bugs, others in each run, are caught; `make mutants` plants all of them."""

import random

import pytest

from tests.support.mutants import judge, mutants

QUICK = 3


@pytest.mark.slow
def test_planted_bugs_are_caught(rng: random.Random) -> None:
    """A sample of those whose first tests need no server."""
    quick = [mutant for mutant in mutants() if mutant.tests[0].startswith("tests/unit/")]
    survivors = [mutant.name for mutant in rng.sample(quick, QUICK) if judge(mutant).caught_by is None]
    assert survivors == []
