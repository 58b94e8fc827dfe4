"""The list of planted bugs fits the sources; `make mutants` plants them."""

from collections import Counter

import pytest

from tests.support.downloads import ROOT
from tests.support.mutants import Mutant, mutants

LEAST = 25


def test_there_are_enough_of_them_and_each_has_a_name() -> None:
    """A list that only grows: a name is said once, and so is each bug."""
    listed = mutants()
    assert len(listed) >= LEAST
    assert Counter(each.name for each in listed).most_common(1)[0][1] == 1
    assert Counter((each.file, each.before, each.after) for each in listed).most_common(1)[0][1] == 1


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_a_mutant_fits_the_sources(mutant: Mutant) -> None:
    """What it changes stands there exactly once, it changes something, and its tests are there."""
    text = (ROOT / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.before) == 1
    assert mutant.before != mutant.after
    assert mutant.why
    for tests in mutant.tests:
        assert (ROOT / tests.split()[0]).is_file()
