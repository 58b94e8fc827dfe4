"""The list of faults and the tests agree: every mark is a row, every row has a test or a reason why it has none."""

from tests.support.downloads import ROOT
from tests.support.scenarios import AREAS, ROWS, WITHOUT_TEST, automated, written_anew


def test_every_mark_names_a_row() -> None:
    """A mistyped mark would count for nothing."""
    assert sorted(set(automated()) - ROWS.keys()) == []


def test_a_row_has_tests_or_a_reason() -> None:
    """Never neither, never both."""
    tests = automated()
    assert [row for row in ROWS if row not in tests and row not in WITHOUT_TEST] == []
    assert sorted(WITHOUT_TEST.keys() - ROWS.keys()) == []
    assert sorted(WITHOUT_TEST.keys() & tests.keys()) == []


def test_the_list_is_whole() -> None:
    """113 rows, numbered from one in each area."""
    assert len(ROWS) == 113
    for letter in AREAS:
        numbers = [int(row[1:]) for row in ROWS if row[0] == letter]
        assert numbers == list(range(1, len(numbers) + 1))


def test_the_documentation_shows_it() -> None:
    """`make generate` writes it anew."""
    page = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert written_anew(page) == page
